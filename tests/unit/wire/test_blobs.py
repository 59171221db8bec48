"""What an agent may say of its blobs, and the grants that it is shown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vk_provider.wire.blobs import MAX_FAILURES, MAX_HELD, MAX_WANTED, compute_grant
from vk_provider.wire.inbound import WireError, decode_up

DIGEST = "sha256:" + "0" * 64
MESSAGE: dict[str, Any] = {
    "type": "blobs",
    "podUID": "uid-1",
    "wanted": [DIGEST],
    "fetching": [],
    "held": [DIGEST],
    "failed": [{"digest": DIGEST, "instance": "i-1"}],
    "peerBytes": 1,
    "registryBytes": 2,
}


def test_a_message_is_decoded() -> None:
    assert decode_up(orjson.dumps(MESSAGE)) == MESSAGE


@pytest.mark.parametrize(
    "wrong",
    [
        {"wanted": ["sha256:" + "A" * 64]},
        {"wanted": [DIGEST] * (MAX_WANTED + 1)},
        {"fetching": [DIGEST] * (MAX_WANTED + 1)},
        {"held": [DIGEST] * (MAX_HELD + 1)},
        {"held": ["../../x"]},
        {"failed": [{"digest": DIGEST, "instance": "i\n1"}]},
        {"failed": [{"digest": DIGEST, "instance": "i-1"}] * (MAX_FAILURES + 1)},
        {"peerBytes": -1},
        {"registryBytes": 2**63},
        {"podUID": "../"},
    ],
)
def test_a_value_beyond_its_limits_breaks_the_contract(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_up(orjson.dumps({**MESSAGE, **wrong}))


def test_a_grant_is_for_one_instance_and_one_blob() -> None:
    key, other = "5e" * 32, "sha256:" + "1" * 64
    grants = {compute_grant(*each) for each in ((key, "i-1", DIGEST), (key, "i-2", DIGEST), (key, "i-1", other))}
    assert len(grants | {compute_grant("6e" * 32, "i-1", DIGEST)}) == 4
