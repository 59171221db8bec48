"""Decodes and validates everything that an agent sends over the session, and its answers that are looked at. Pure.

A pod's owner may control the agent of its instance, so no part of a message is used before it is validated here: size,
nesting, types, lengths and numbers are those of `wire.session`, and unknown fields are dropped.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from vk_provider.wire.blobs import BlobsMessage
from vk_provider.wire.exchange import MAX_EXCHANGE_BYTES, ExchangeAnswer
from vk_provider.wire.identity import IdentityMessage
from vk_provider.wire.images import ImagesMessage
from vk_provider.wire.notices import NoticeMessage
from vk_provider.wire.session import (
    MAX_UP_BYTES,
    EventMessage,
    HelloMessage,
    StatsMessage,
    StatusMessage,
    UpMessage,
)
from vk_provider.wire.tables import MAX_ANSWER_BYTES, TablesAnswer, TablesMessage

_REASON_CHARACTERS = 200
_HEAD, _MAX_HEAD = '{"type":"', 32


class WireError(ValueError):
    """The message violates the contract; str() is one line, safe for logs and events."""


class _Envelope(msgspec.Struct):
    type: str


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "hello": msgspec.json.Decoder(HelloMessage),
    "status": msgspec.json.Decoder(StatusMessage),
    "event": msgspec.json.Decoder(EventMessage),
    "stats": msgspec.json.Decoder(StatsMessage),
    "tables": msgspec.json.Decoder(TablesMessage),
    "blobs": msgspec.json.Decoder(BlobsMessage),
    "identity": msgspec.json.Decoder(IdentityMessage),
    "images": msgspec.json.Decoder(ImagesMessage),
    "notice": msgspec.json.Decoder(NoticeMessage),
}
_TABLES_ANSWER = msgspec.json.Decoder(TablesAnswer)
_EXCHANGE_ANSWER = msgspec.json.Decoder(ExchangeAnswer)


def decode_up(data: bytes | str) -> UpMessage:
    """Decode one message of an agent. Raises WireError."""
    if len(data) > MAX_UP_BYTES:
        raise WireError(f"a message of more than {MAX_UP_BYTES} bytes")
    kind = _kind_of(data)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise WireError(f"a message of the unknown type {printable(kind)}")
    return cast(UpMessage, _decode(decoder, data))


def decode_tables_answer(data: bytes) -> TablesAnswer:
    """Decode an answer of routes.TABLES. Raises WireError."""
    return cast(TablesAnswer, _decode_answer(_TABLES_ANSWER, data, MAX_ANSWER_BYTES))


def decode_exchange_answer(data: bytes) -> ExchangeAnswer:
    """Decode an answer of routes.IDENTITY_REQUEST. Raises WireError."""
    return cast(ExchangeAnswer, _decode_answer(_EXCHANGE_ANSWER, data, MAX_EXCHANGE_BYTES))


def _decode_answer(decoder: msgspec.json.Decoder[Any], data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise WireError(f"an answer of more than {limit} bytes")
    return _decode(decoder, data)


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes | str) -> Any:
    try:
        return decoder.decode(data)
    except RecursionError:
        raise WireError("a message that is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(printable(str(error))) from None


def _kind_of(data: bytes | str) -> str:
    """The message's type. Agents write it first; the decoder of that type checks it once more."""
    head = data[:_MAX_HEAD]
    text = head if isinstance(head, str) else head.decode("latin-1")
    if text.startswith(_HEAD):
        kind = text[len(_HEAD) :].partition('"')[0]
        if kind in _DECODERS:
            return kind
    return cast(str, _decode(_ENVELOPE, data).type)


def printable(text: str) -> str:
    """The text on one line, cut to a length that fits a log line."""
    line = "".join(character if character.isprintable() else "?" for character in text[:_REASON_CHARACTERS])
    return line if len(text) <= _REASON_CHARACTERS else f"{line}..."
