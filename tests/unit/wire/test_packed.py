"""The envelope of packed elements."""

from __future__ import annotations

import base64
import zlib

import pytest

from vk_provider.wire import packed as module
from vk_provider.wire.packed import decode_packed, encode_packed


@pytest.mark.parametrize("bodies", [[], [b""], [b"abcd", b"", b"x" * 100_000]])
def test_the_bodies_come_back(bodies: list[bytes]) -> None:
    assert list(decode_packed(encode_packed(bodies))) == bodies


def wrap(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "no base64",
        base64.b64encode(b"no stream").decode(),
        base64.b64encode(zlib.compress(b"\1\0\0\0a")[:-3]).decode(),
        wrap(b"\5\0\0\0abcd"),
        wrap(b"\1\0\0"),
    ],
)
def test_anything_else_is_refused(packed: str) -> None:
    with pytest.raises(ValueError, match="packed elements"):
        decode_packed(packed)


def test_a_small_message_does_not_become_a_large_block(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = encode_packed([bytes(4096)])
    monkeypatch.setattr(module, "MAX_PACKED_BYTES", 4000)
    with pytest.raises(ValueError, match="too large"):
        decode_packed(packed)
