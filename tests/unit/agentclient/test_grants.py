"""Grants: what an agent shows to prove that the provider has given it a pod."""

from __future__ import annotations

import msgspec
import pytest

from vk_provider.agentclient.grants import Grants
from vk_provider.wire.inbound import WireError, decode_up

OLD, NEW = "ab" * 32, "cd" * 32


def test_a_grant_is_good_for_its_instance_and_its_pod_alone() -> None:
    grants = Grants(lambda: [NEW])
    grant = grants.sign("i-1", "uid-1")
    assert grants.is_genuine(grant, "i-1", "uid-1")
    assert not grants.is_genuine(grant, "i-2", "uid-1")
    assert not grants.is_genuine(grant, "i-1", "uid-2")
    assert not grants.is_genuine("", "i-1", "uid-1")
    assert not grants.is_genuine(grant.rpartition("/")[2], "i-1", "uid-1")


def test_it_outlives_a_rotation_as_long_as_its_master_is_kept() -> None:
    masters = [OLD]
    grants = Grants(lambda: masters)
    grant = grants.sign("i-1", "u")
    masters.append(NEW)
    assert grants.is_genuine(grant, "i-1", "u") and grants.sign("i-1", "u") != grant
    masters.pop(0)
    assert not grants.is_genuine(grant, "i-1", "u")


def test_a_greeting_carries_a_grant_and_nothing_else_in_its_place() -> None:
    hello = {
        "type": "hello",
        "version": 1,
        "instanceID": "i-1",
        "podUID": "u",
        "agentStartedAt": "2026-01-01T00:00:00Z",
    }
    grant = Grants(lambda: [NEW]).sign("i-1", "u")
    assert decode_up(msgspec.json.encode({**hello, "grant": grant}))["grant"] == grant
    for bad in ("x", "a" * 129, 3, "a\n"):
        with pytest.raises(WireError):
            decode_up(msgspec.json.encode({**hello, "grant": bad}))
