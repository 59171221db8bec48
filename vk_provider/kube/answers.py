"""What the API server's answers, and their absence, mean."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Iterator, Mapping

import aiohttp
import msgspec
import orjson

from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json

_MAX_RETRY_AFTER_S = 30.0
_BIG_BODY_BYTES = 256 * 1024


def decode_answer(raw: bytes) -> Json:
    """The JSON object of an answer, {} for none. Raises KubeApiError."""
    if not raw:
        return {}
    # Garbage collections, which find nothing here, would take two thirds of the time to decode a long list.
    pause = len(raw) > _BIG_BODY_BYTES and gc.isenabled()
    if pause:
        gc.disable()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise KubeApiError(NO_ANSWER, "BrokenAnswer", f"API server sent invalid JSON: {error}") from error
    finally:
        if pause:
            gc.enable()
    if not isinstance(document, dict):
        raise KubeApiError(NO_ANSWER, "BrokenAnswer", "API server did not send a JSON object")
    return document


class _Page(msgspec.Struct):
    metadata: Json | None = None
    items: list[msgspec.Raw] | None = None


_PAGES = msgspec.json.Decoder(_Page)

ReadItem = Callable[[msgspec.Raw], Json]
"""Decodes one object of a list."""


def decode_page(raw: bytes, read: ReadItem) -> tuple[Iterator[Json], Json]:
    """The objects of a page, each decoded when it is taken: all of them at once would be ten times as large as the
    page, and much of that would stay with the process. Beside them the metadata of the list. Raises KubeApiError."""
    try:
        page = _PAGES.decode(raw)
    except msgspec.DecodeError as error:
        raise KubeApiError(NO_ANSWER, "BrokenAnswer", f"API server sent an invalid list: {error}") from error
    return map(read, page.items or ()), page.metadata or {}


def read_item(raw: msgspec.Raw) -> Json:
    """All of it."""
    item: Json = orjson.loads(memoryview(raw))
    return item


def reader_of(shape: type, trim: Callable[[Json], Json]) -> ReadItem:
    """Reads what a TypedDict has of an object, without the rest. trim: leaves of a whole object what matters; for those
    that are not of that shape, which no API server sends."""
    decoder: msgspec.json.Decoder[Json] = msgspec.json.Decoder(shape)

    def read(raw: msgspec.Raw) -> Json:
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError:
            return trim(read_item(raw))

    return read


def read_refusal(status: int, raw: bytes) -> KubeApiError:
    """The error that an answer with this HTTP status and body is."""
    try:
        document = orjson.loads(raw)
        return KubeApiError(status, document.get("reason") or "", document.get("message") or "")
    except (orjson.JSONDecodeError, AttributeError):
        return KubeApiError(status, "", raw[:200].decode(errors="replace").strip())


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """When to ask again, at most in _MAX_RETRY_AFTER_S; None when the answer does not say it in seconds."""
    value = headers.get("Retry-After", "")
    return min(float(value), _MAX_RETRY_AFTER_S) if value.isdecimal() else None


def describe_silence(error: Exception, timeout_s: float) -> KubeApiError:
    """The error of a call that got no answer. Reasons: Untrusted, Timeout, Unreachable."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return KubeApiError(NO_ANSWER, "Untrusted", " ".join(str(error).split()))
    if isinstance(error, TimeoutError):
        return KubeApiError(NO_ANSWER, "Timeout", f"no answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        return KubeApiError(
            NO_ANSWER, "Unreachable", f"cannot connect to {error.host}:{error.port}: {cause.strerror or cause}"
        )
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError):
        return KubeApiError(NO_ANSWER, "Unreachable", "connection to the API server was lost")
    return KubeApiError(NO_ANSWER, "Unreachable", " ".join(str(error).split()) or type(error).__name__)
