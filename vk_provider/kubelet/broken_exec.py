"""What a client of exec and attach is told when its stream ends in the middle: the agent died, the instance went, the
stream was idle for too long, the provider stops.

A SPDY client takes the bare end of its connection for success: `kubectl exec` would exit with 0 although nobody knows
how the command ended. So the frames that pass towards the client are counted (nothing of them is changed), and when
the end comes before the runtime said how it went, a last frame says so on the error stream.
"""

from __future__ import annotations

import json

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
_FRAME_HEAD_BYTES = 8
_MAX_FILL_BYTES = 64 * 1024
"""Twice what the runtime copies at a time."""
_RST_STREAM, _GOAWAY = 3, 7
_FIN = 0x01

ERROR_STREAM = 1
"""Clients open the error stream first, and their streams have odd numbers."""
MESSAGE = "the stream was closed before the command ended"


class BrokenExec:
    """Follows the answer to one upgrade request. Other protocols than SPDY are left alone: a WebSocket that ends
    without a close frame is an error to its client anyway."""

    def __init__(self) -> None:
        self._answer: bytearray | None = bytearray()
        self._frames = False
        self._json = False
        self._frame_head = bytearray()
        self._left = 0
        self._in_control_frame = False
        self._told = False

    def feed(self, data: bytes) -> None:
        """Take note of bytes on their way to the client."""
        if self._answer is not None:
            self._answer += data
            head, end, rest = bytes(self._answer).partition(_HEAD_END)
            if not end:
                if len(head) > _MAX_HEAD_BYTES:
                    self._answer = None
                return
            self._answer = None
            self._read_head(head)
            data = rest
        if self._frames and not self._told:
            self._read_frames(data)

    def _read_head(self, head: bytes) -> None:
        status, *lines = head.lower().split(b"\r\n")
        headers = dict(line.partition(b":")[::2] for line in lines)
        switched = status.split(b" ")[1:2] == [b"101"]
        self._frames = switched and headers.get(b"upgrade", b"").strip() == b"spdy/3.1"
        self._json = headers.get(b"x-stream-protocol-version", b"").strip().startswith((b"v4.", b"v5."))

    def _read_frames(self, data: bytes) -> None:
        offset, size = 0, len(data)
        while offset < size:
            if self._left:
                taken = min(self._left, size - offset)
                self._left -= taken
                offset += taken
                continue
            if not self._frame_head and size - offset >= _FRAME_HEAD_BYTES:
                self._read_frame_head(data[offset : offset + _FRAME_HEAD_BYTES])
                offset += _FRAME_HEAD_BYTES
                continue
            wanted = _FRAME_HEAD_BYTES - len(self._frame_head)
            self._frame_head += data[offset : offset + wanted]
            offset += wanted
            if len(self._frame_head) == _FRAME_HEAD_BYTES:
                self._read_frame_head(bytes(self._frame_head))
                self._frame_head.clear()

    def _read_frame_head(self, head: bytes) -> None:
        self._left = int.from_bytes(head[5:8], "big")
        self._in_control_frame = bool(head[0] & 0x80)
        if self._in_control_frame:
            # Stream by stream at the end of a session, or all at once.
            self._told = self._told or int.from_bytes(head[2:4], "big") in (_RST_STREAM, _GOAWAY)
        elif int.from_bytes(head[:4], "big") == ERROR_STREAM:
            self._told = self._told or self._left > 0 or bool(head[4] & _FIN)

    def ending(self) -> bytes:
        """What to send before the client's connection is closed; b"" when the client knows how it went, or cannot be
        told. A frame that was cut off is filled up with zeros: only so can its receiver read the next one."""
        if not self._frames or self._told:
            return b""
        filled = b""
        if self._frame_head:
            filled = bytes(_FRAME_HEAD_BYTES - len(self._frame_head))
            self._read_frame_head(bytes(self._frame_head) + filled)
        if self._left > _MAX_FILL_BYTES or (self._left and self._in_control_frame):
            return b""
        filled += bytes(self._left)
        self._told = True
        text = self._render().encode()
        head = ERROR_STREAM.to_bytes(4, "big") + bytes((_FIN,)) + len(text).to_bytes(3, "big")
        return filled + head + text

    def _render(self) -> str:
        if not self._json:
            return MESSAGE
        status = {"status": "Failure", "message": MESSAGE, "reason": "InternalError", "code": 500}
        return json.dumps({"metadata": {}, **status})
