"""One unary gRPC call as Go's gRPC makes it, down to the words of its errors. On h2, the library below grpclib: grpclib
does not tell when a server has spoken HTTP/2, nor what it said instead of a gRPC answer.

Source: google.golang.org/grpc internal/transport/http2_client.go, http_util.go.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from vk_provider.agent.worker.http.words import describe_os_error
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import AgentError
from vk_provider.podmodel.fieldref import quote

_ATTEMPT_S = 20.0
"""Go's gRPC gives one attempt to connect this long."""
_READ_BYTES = 65536
_SHOWN_BYTES = 1024
"""Of an answer that is not gRPC's."""
_PREFIX_BYTES = 5
_CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
_CODE_OF_HTTP = {
    400: "Internal",
    401: "Unauthenticated",
    403: "PermissionDenied",
    404: "Unimplemented",
    **dict.fromkeys((429, 502, 503, 504), "Unavailable"),
}
_CODE_OF_RESET: dict[int, str] = {
    ErrorCodes.FLOW_CONTROL_ERROR: "ResourceExhausted",
    ErrorCodes.REFUSED_STREAM: "Unavailable",
    ErrorCodes.CANCEL: "Canceled",
    ErrorCodes.ENHANCE_YOUR_CALM: "ResourceExhausted",
    ErrorCodes.INADEQUATE_SECURITY: "PermissionDenied",
}


class CallError(AgentError):
    """The call failed; `code` is the name of a gRPC status in Go, str() its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Answer:
    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False


class GrpcConnection:
    """A connection whose server has sent its settings: from then on it is a gRPC server for Go, and not before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader, self._writer, self._authority = reader, writer, authority
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))

    async def greet(self) -> None:
        """Raises CallError when the server does not speak HTTP/2."""
        self._h2.initiate_connection()
        while not any(isinstance(event, RemoteSettingsChanged) for event in await self._receive()):
            pass

    async def call(self, path: str, message: bytes, user_agent: str) -> bytes:
        """Return the reply's message; raises CallError. A stream that was refused is tried once more."""
        try:
            return await self._call(path, message, user_agent)
        except CallError as error:
            if error.code != "Unavailable" or "REFUSED_STREAM" not in str(error):
                raise
        return await self._call(path, message, user_agent)

    async def _call(self, path: str, message: bytes, user_agent: str) -> bytes:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("user-agent", user_agent),
            ("te", "trailers"),
        ]
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, headers)
            self._h2.send_data(stream_id, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        except H2Error as error:
            raise CallError("Unavailable", f"error reading from server: {error}") from error
        answer = _Answer()
        while not answer.ended:
            for event in await self._receive():
                _note(answer, event, stream_id)
        return _judge(answer)

    async def _receive(self) -> list[Any]:
        try:
            self._writer.write(self._h2.data_to_send())
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise CallError("Unavailable", "error reading from server: EOF")
            events: list[Any] = self._h2.receive_data(data)
            self._writer.write(self._h2.data_to_send())
        except OSError as error:
            words = describe_os_error(error, "")
            raise CallError("Unavailable", f"error reading from server: {words}") from error
        except (H2Error, UnicodeError) as error:
            raise CallError("Unavailable", f"error reading from server: {error}") from error
        return events

    def close(self) -> None:
        self._writer.transport.abort()


async def connect(host: str, port: int) -> GrpcConnection:
    """Connect as often as it takes: the caller's time limit is the only end, whatever goes wrong meanwhile."""
    pause = Backoff(first_s=0.1, max_s=1.0)
    while True:
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                return await _connect_once(host, port)
        except (OSError, CallError):  # a TimeoutError is one
            pass
        await asyncio.sleep(pause.next_delay_s())


async def _connect_once(host: str, port: int) -> GrpcConnection:
    reader, writer = await asyncio.open_connection(host, port)
    connection = GrpcConnection(reader, writer, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    try:
        await connection.greet()
    except BaseException:
        connection.close()
        raise
    return connection


def _note(answer: _Answer, event: Any, stream_id: int) -> None:
    match event:
        case ConnectionTerminated():
            if event.error_code is ErrorCodes.NO_ERROR:
                raise CallError("Unavailable", "the connection is draining")
            detail = (event.additional_data or b"").decode(errors="replace")
            raise CallError(
                "Unavailable",
                'closing transport due to: connection error: desc = "error reading from server: EOF", received prior '
                f"goaway: code: {_reset_name(event.error_code)}, debug data: {quote(detail)}",
            )
        case StreamReset(stream_id=reset_id) if reset_id == stream_id:
            code = _CODE_OF_RESET.get(event.error_code, "Internal")
            name = _reset_name(event.error_code)
            raise CallError(code, f"stream terminated by RST_STREAM with error code: {name}")
        case ResponseReceived():
            answer.headers = _read(event.headers)
        case DataReceived():
            answer.body += event.data  # never acknowledged: a window's size at most
        case TrailersReceived():
            answer.trailers = _read(event.headers)
        case StreamEnded():
            answer.ended = True


def _read(headers: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}


def _reset_name(code: Any) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"unknown error code 0x{int(code):x}"


def _judge(answer: _Answer) -> bytes:
    """Return the message of a complete answer, or raise CallError."""
    content_type = answer.headers.get("content-type")
    http_status = answer.headers.get(":status", "")
    is_grpc = content_type is not None and re.match(r"application/grpc($|[+;])", content_type.lower())
    if not is_grpc or (http_status != "200" and "grpc-status" not in answer.headers):
        raise _not_grpc(answer, http_status, content_type if not is_grpc else "")
    end = answer.trailers or answer.headers
    if "grpc-status" not in end:
        raise CallError("Internal", "server closed the stream without sending trailers")
    try:
        number = int(end["grpc-status"])
    except ValueError:
        raise CallError("Unknown", f"transport: malformed grpc-status: {quote(end['grpc-status'])}") from None
    if number:
        code = _CODES[number] if 0 < number < len(_CODES) else f"Code({number})"
        raise CallError(code, _decode_message(end.get("grpc-message", "")))
    if len(answer.body) < _PREFIX_BYTES:
        text = "cardinality violation: received no response message from non-server-streaming RPC"
        raise CallError("Internal", text)
    size = int.from_bytes(answer.body[1:_PREFIX_BYTES], "big")
    return answer.body[_PREFIX_BYTES : _PREFIX_BYTES + size]


def _not_grpc(answer: _Answer, http_status: str, content_type: str | None) -> CallError:
    number = int(http_status) if http_status.isdigit() else 0
    phrase = HTTPStatus(number).phrase if number in list(HTTPStatus) else ""
    text = f"unexpected HTTP status code received from server: {http_status} ({phrase})"
    if content_type is None:
        text += "; malformed header: missing HTTP content-type"
    elif content_type:
        text += f"; transport: received unexpected content-type {quote(content_type)}"
    if answer.body:
        text += f"\ndata: {quote(answer.body[:_SHOWN_BYTES].decode(errors='replace'))}"
    return CallError(_CODE_OF_HTTP.get(number, "Unknown"), text)


def _decode_message(text: str) -> str:
    """grpc-message: bytes outside of printable ASCII are percent-encoded."""
    encoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return encoded.decode(errors="replace")
