"""What the API server's answers, and their absence, mean."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Mapping

import aiohttp
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
