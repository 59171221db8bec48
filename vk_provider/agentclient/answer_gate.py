"""Checks the head of an agent's answer to an upgrade request before any byte of it is forwarded.

Of a 101 only the headers of the upgrade itself are forwarded, of a refusal the status, content type and a short body.
Everything else (redirects, malformed heads, a connection that ends early) becomes a 502.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from vk_provider.agentclient.answers import check_status, clean_headers
from vk_provider.aiokit.pump import Trailer
from vk_provider.errors import AgentError

MAX_HEAD_BYTES = 16 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
"""Limit of the body of a refusal; the rest is cut off."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\x20-\x7e]*)?")
_FIELD = re.compile(rb"([0-9A-Za-z!#$%&'*+.^_`|~-]+):[ \t]*([\x20-\x7e\t]*)")
_UPGRADE_FIELDS = frozenset(
    {
        "connection",
        "upgrade",
        "x-stream-protocol-version",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    }
)


class AnswerGate:
    """A Gate and a Trailer of aiokit.pump for one stream. `trailer` observes what passes the gate."""

    def __init__(self, trailer: Trailer | None = None) -> None:
        self._trailer = trailer
        self._head: bytearray | None = bytearray()
        self._left: int | None = None
        self.done = False

    def pass_on(self, data: bytes) -> bytes:
        if self.done:
            return b""
        if self._head is None:
            return data if self._left is None else self._cut(data)
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            return self._refuse("a head of an answer that is too long")
        if not end:
            return b""
        self._head = None
        try:
            return self._answer(head, rest)
        except (AgentError, ValueError) as error:
            return self._refuse(str(error))

    def _answer(self, head: bytes, rest: bytes) -> bytes:
        """Raises ValueError or AgentError for anything but a valid answer of an agent."""
        status_line, *lines = head.split(b"\r\n")
        matched = _STATUS_LINE.fullmatch(status_line)
        found = [_FIELD.fullmatch(line) for line in lines]
        if matched is None or None in found:
            raise ValueError("the agent's answer is no HTTP")
        fields = [(field[1].decode(), field[2].decode().rstrip()) for field in found if field is not None]
        status = int(matched[1])
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            passed = [(name, value) for name, value in fields if name.lower() in _UPGRADE_FIELDS]
            return _render(status, passed) + rest
        check_status(status)
        values = {name.title(): value for name, value in fields}
        passed = list(clean_headers(values).items())
        self._left = MAX_REFUSAL_BYTES
        if values.get("Transfer-Encoding", "").lower() == "chunked":
            passed.append(("Transfer-Encoding", "chunked"))
        elif values.get("Content-Length", "").isdecimal():
            self._left = min(self._left, int(values["Content-Length"][:12]))
            passed.append(("Content-Length", str(self._left)))
        return _render(status, [*passed, ("Connection", "close")]) + self._cut(rest)

    def _cut(self, data: bytes) -> bytes:
        """The part of a refusal's body that is forwarded."""
        assert self._left is not None
        passed = data[: self._left]
        self._left -= len(passed)
        self.done = self._left == 0
        return passed

    def _refuse(self, reason: str) -> bytes:
        self._head, self.done = None, True
        body = f"the instance's answer is refused: {reason}\n".encode()
        fields = [*clean_headers({}).items(), ("Content-Length", str(len(body))), ("Connection", "close")]
        return _render(HTTPStatus.BAD_GATEWAY, fields) + body

    def feed(self, data: bytes) -> None:
        if self._trailer is not None:
            self._trailer.feed(data)

    def finish(self) -> bytes:
        if self._head is not None:
            return self._refuse("the connection ended before it")
        return self._trailer.finish() if self._trailer is not None else b""


def _render(status: int, fields: list[tuple[str, str]]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
