"""When a token is due, and what a pod's record does with that."""

import asyncio
import time
from typing import Any

import pytest

from tests.unit.kube.fakeclient import FakeClient
from vk_provider.errors import KubeApiError
from vk_provider.kube import references
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.kube.tokens import BoundToken, compute_refresh_at
from vk_provider.wire.session import TokenReference


def test_a_token_is_renewed_after_four_fifths_of_its_life() -> None:
    assert compute_refresh_at(1000, 1000 + 3600, 0) == 1000 + 2880


def test_a_long_token_is_renewed_after_a_day() -> None:
    assert compute_refresh_at(0, 30 * 86400, 10) == 86400 - 10


def test_a_token_is_never_due_before_it_was_issued() -> None:
    assert compute_refresh_at(1000, 1000, 10) == 1000


async def test_a_token_that_cannot_be_renewed_is_kept_and_tried_again_at_leisure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: Any) -> BoundToken:
        raise KubeApiError(0, "Unreachable", "the API server is away")

    monkeypatch.setattr(references, "request_token", refuse)
    store = references.ReferenceStore(FakeClient(), ServiceEnvironment(FakeClient()))
    store.synced.set()
    source = {"serviceAccountToken": {"path": "t", "audience": "bank", "expirationSeconds": 600}}
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [], "volumes": [{"name": "v", "projected": {"sources": [source]}}]},
    }
    store.subscribe(pod, lambda: None, lambda: None)
    old = TokenReference(token="old", expirationTimestamp="2026-01-01T00:00:00Z")
    record = store._records["u"]
    record.tokens["bank|600"] = BoundToken(old, refresh_at=time.time() - 1, expires_at=time.time() + 100)
    found = await store.resolve(pod)
    assert (found["tokens"]["bank|600"], found["errors"]) == (old, {})
    assert 10 < record._refresh_due - asyncio.get_running_loop().time() <= references._TOKEN_RETRY_S + 0.001
    store._close()
