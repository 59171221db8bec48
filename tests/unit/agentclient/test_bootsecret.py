"""One boot secret for each launch, found again by the tags of the instance alone."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret, find_boot_secret, verify_proof
from vk_provider.cloud.base import TAG_LAUNCH
from vk_provider.cloud.tags import check_tags
from vk_provider.errors import AgentIdentityError

MASTERS = ["11" * 32, "22" * 32, "33" * 32]
TOKEN = "0b6a3c3e-8d2f-4a60-93d5-1f1f8f0b7a11-0-0123456789abcdef0123"


def test_each_launch_and_each_master_has_a_secret_of_its_own() -> None:
    launches = [(master, build_launch_id(master, token)) for master in MASTERS for token in ("a", "b")]
    secrets = {derive_boot_secret(*launch) for launch in launches}
    assert len(secrets) == 6 and not secrets & set(MASTERS)
    assert all(len(bytes.fromhex(secret)) == 32 for secret in secrets)


@pytest.mark.parametrize("master", MASTERS)
def test_a_restarted_provider_finds_generation_and_launch_in_the_tag(master: str) -> None:
    launch_id = build_launch_id(master, TOKEN)
    check_tags({TAG_LAUNCH: launch_id})
    assert find_boot_secret(MASTERS, "i-1", {TAG_LAUNCH: launch_id}) == derive_boot_secret(master, launch_id)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "without a boot secret of its own"),
        ({TAG_LAUNCH: build_launch_id("44" * 32, TOKEN)}, "rotated away"),
        ({TAG_LAUNCH: "no generation"}, "rotated away"),
        ({TAG_LAUNCH: "\u00e9/x"}, "rotated away"),
    ],
)
def test_an_instance_of_an_earlier_version_or_of_a_forgotten_master_has_no_secret(
    tags: dict[str, str], reason: str
) -> None:
    with pytest.raises(AgentIdentityError, match=f"i-1: .*{reason}"):
        find_boot_secret(MASTERS, "i-1", tags)


def test_only_the_holder_of_the_launchs_secret_proves_an_identity() -> None:
    secret, other = "ab" * 32, "cd" * 32
    proof = hmac.new(bytes.fromhex(secret), b"nonce\ni-1\ncsr", hashlib.sha256).hexdigest()
    assert verify_proof(secret, "nonce", "i-1", "csr", proof)
    assert not verify_proof(other, "nonce", "i-1", "csr", proof)
    assert not verify_proof(secret, "nonce", "i-2", "csr", proof)
