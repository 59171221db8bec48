"""The last frame of an exec whose instance is lost: read back as a SPDY client reads it."""

from __future__ import annotations

import json

import pytest

from vk_provider.kubelet.streams.broken_exec import MESSAGE, BrokenExec

V4 = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
HEAD = V4 + b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
OLD_HEAD = V4 + b"X-Stream-Protocol-Version: channel.k8s.io\r\n\r\n"


def data_frame(stream: int, text: bytes, fin: bool = False) -> bytes:
    return stream.to_bytes(4, "big") + bytes((fin,)) + len(text).to_bytes(3, "big") + text


def control_frame(kind: int, text: bytes) -> bytes:
    return b"\x80\x03" + kind.to_bytes(2, "big") + b"\x00" + len(text).to_bytes(3, "big") + text


SYN_REPLY = control_frame(2, b"\x00\x00\x00\x01headers")
OUTPUT = data_frame(5, b"hello world")


def read_frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """(stream or 0x80030000 + type, flags, payload) of whole frames; the last must not be cut."""
    frames = []
    while data:
        length = int.from_bytes(data[5:8], "big")
        assert len(data) >= 8 + length
        frames.append((int.from_bytes(data[:4], "big"), data[4], data[8 : 8 + length]))
        data = data[8 + length :]
    return frames


def broken_after(data: bytes, chunk: int = 1 << 20) -> bytes:
    broken = BrokenExec()
    for start in range(0, len(data), chunk):
        broken.feed(data[start : start + chunk])
    trailer = broken.finish()
    assert broken.finish() == b"", "said twice"
    return trailer


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 20])
def test_a_command_without_a_status_failed(chunk: int) -> None:
    stream, flags, text = read_frames(broken_after(HEAD + SYN_REPLY + OUTPUT, chunk))[-1]
    assert (stream, flags) == (1, 1)
    status = json.loads(text)
    assert (status["status"], status["message"], status["code"]) == ("Failure", MESSAGE, 500)


@pytest.mark.parametrize(
    "said",
    [
        data_frame(1, b'{"status":"Success"}'),
        data_frame(1, b"", fin=True),
        control_frame(3, b"\x00\x00\x00\x01\x00\x00\x00\x05"),
        control_frame(7, bytes(8)),
    ],
    ids=["status", "end of the error stream", "RST_STREAM", "GOAWAY"],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_what_the_runtime_said_stands(said: bytes, chunk: int) -> None:
    assert broken_after(HEAD + SYN_REPLY + OUTPUT + said, chunk) == b""


def test_a_frame_that_was_cut_off_is_filled_up() -> None:
    whole = HEAD + SYN_REPLY + OUTPUT
    begin = len(HEAD + SYN_REPLY)
    for length in range(1, len(OUTPUT)):
        sent = whole[: begin + length]
        frames = read_frames(sent[len(HEAD) :] + broken_after(sent))
        assert frames[-1][:2] == (1, 1), length
        assert len(frames) == 3


def test_a_control_frame_that_was_cut_off_cannot_be_filled_up() -> None:
    assert broken_after(HEAD + SYN_REPLY[:-1]) == b""


def test_older_protocols_have_plain_text() -> None:
    assert read_frames(broken_after(OLD_HEAD))[-1] == (1, 1, MESSAGE.encode())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEAD[:-1],
        b"HTTP/1.1 403 Forbidden\r\nUpgrade: SPDY/3.1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"x" * 100_000,
    ],
    ids=["nothing", "half a head", "refused", "websocket", "no head"],
)
def test_without_spdy_nothing_is_added(answer: bytes) -> None:
    assert broken_after(answer) == b""
