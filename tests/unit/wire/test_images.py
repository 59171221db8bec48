"""What an agent may say of its images."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vk_provider.wire.images import MAX_DIGESTS, MAX_IMAGES
from vk_provider.wire.inbound import WireError, decode_up

USE: dict[str, Any] = {
    "image": "registry.example/a:1",
    "digests": ["sha256:" + "0" * 64],
    "sizeBytes": 7,
    "pulled": True,
    "seconds": 1.5,
}


def message(*uses: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": "images", "podUID": "uid-1", "images": list(uses)})


def test_images_with_and_without_digests_are_decoded() -> None:
    decoded = decode_up(message(USE, {**USE, "digests": [], "pulled": False}))
    assert decoded["type"] == "images"
    assert decoded["images"] == [USE, {**USE, "digests": [], "pulled": False}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"digests": ["sha256:" + "0" * 63]},
        {"digests": ["sha256:" + "A" * 64]},
        {"digests": ["../../../etc/shadow"]},
        {"digests": ["sha256:" + "0" * 64] * (MAX_DIGESTS + 1)},
        {"image": "a\nb"},
        {"image": "x" * 4097},
        {"sizeBytes": -1},
        {"seconds": -0.1},
        {"pulled": "yes"},
    ],
)
def test_a_value_beyond_its_limits_breaks_the_contract(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_up(message({**USE, **wrong}))


def test_the_list_has_a_limit() -> None:
    decode_up(message(*[USE] * MAX_IMAGES))
    with pytest.raises(WireError):
        decode_up(message(*[USE] * (MAX_IMAGES + 1)))
