"""The token that makes a launch idempotent."""

from __future__ import annotations

import itertools

from vk_provider.cloud.base import Offering
from vk_provider.pods.launcher import build_client_token

UIDS = ("0b6a3c3e-8d2f-4a60-93d5-1f1f8f0b7a11", "ffffffff-ffff-ffff-ffff-ffffffffffff")
OFFERINGS = (
    Offering("m7i-flex.metal-48xl", "ap-southeast-2a", "spot", "amd64", 1, 1, 1.0),
    Offering("m7i-flex.metal-48xl", "ap-southeast-2b", "spot", "amd64", 1, 1, 1.0),
)


def test_client_tokens_are_short_ascii_and_differ_by_pod_attempt_and_offering() -> None:
    requests = list(itertools.product(UIDS, (0, 1, 99), OFFERINGS))
    tokens = {build_client_token(*request) for request in requests}
    assert len(tokens) == len(requests)
    assert all(len(token) <= 64 and token.isascii() for token in tokens)
    assert build_client_token(*requests[0]) == build_client_token(*requests[0])
