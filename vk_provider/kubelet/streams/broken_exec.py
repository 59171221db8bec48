"""Reports a failure to a client of exec or attach whose stream ends before the command's result was sent: the agent
died, the instance is gone, the stream reached its idle limit, the provider stops.

A SPDY client takes the plain end of its connection for success: `kubectl exec` would exit with 0 although the exit
code is unknown. So the frames sent to the client are followed (and not changed), and when the stream ends before the
runtime sent a result, a trailer sends a failure on the error stream.
"""

from __future__ import annotations

import json

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
_FRAME_HEAD_BYTES = 8
_MAX_FILL_BYTES = 64 * 1024
"""Twice the size of the runtime's copy buffer."""
_RST_STREAM, _GOAWAY = 3, 7
_FIN = 0x01

ERROR_STREAM = 1
"""Clients open the error stream first, and streams opened by a client have odd numbers."""
MESSAGE = "the stream was closed before the command ended"


class BrokenExec:
    """The Trailer (aiokit.pump) of one exec or attach. Only for SPDY: a WebSocket client reports a connection that
    ends without a close frame as an error."""

    def __init__(self) -> None:
        self._answer: bytearray | None = bytearray()
        self._frames = False
        self._json = False
        self._frame_head = bytearray()
        self._left = 0
        self._in_control_frame = False
        self._has_result = False

    def feed(self, data: bytes) -> None:
        """Observe bytes on their way to the client."""
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
        if self._frames and not self._has_result:
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
            # The runtime closes its streams one by one, or the whole session.
            self._has_result = self._has_result or int.from_bytes(head[2:4], "big") in (_RST_STREAM, _GOAWAY)
        elif int.from_bytes(head[:4], "big") == ERROR_STREAM:
            self._has_result = self._has_result or self._left > 0 or bool(head[4] & _FIN)

    def finish(self) -> bytes:
        """The frame with the failure; b"" when the client has the result, or cannot be sent a frame. A frame that was
        cut off is padded with zeros, since its receiver reads the next frame only after it."""
        if not self._frames or self._has_result:
            return b""
        filled = b""
        if self._frame_head:
            filled = bytes(_FRAME_HEAD_BYTES - len(self._frame_head))
            self._read_frame_head(bytes(self._frame_head) + filled)
        if self._left > _MAX_FILL_BYTES or (self._left and self._in_control_frame):
            return b""
        filled += bytes(self._left)
        self._has_result = True
        text = self._render().encode()
        head = ERROR_STREAM.to_bytes(4, "big") + bytes((_FIN,)) + len(text).to_bytes(3, "big")
        return filled + head + text

    def _render(self) -> str:
        if not self._json:
            return MESSAGE
        status = {"status": "Failure", "message": MESSAGE, "reason": "InternalError", "code": 500}
        return json.dumps({"metadata": {}, **status})
