"""Generators (hypothesis) of what a hostile agent says up its session: bytes of one message each.

A third is valid by the schema, a third are valid messages that were changed, the rest is JSON and bytes of any kind.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from tests.hostile.templates import (
    DIGEST,
    HONEST_IP,
    HONEST_UID,
    HOSTILE_NUMBERS,
    HOSTILE_TEXTS,
    KINDS,
    OTHER_UID,
    OWN_UID,
    TEMPLATES,
    TIME,
    find_paths,
)
from vk_provider.jsontypes import Json
from vk_provider.wire.session import UpMessage

# --- by the schema ---------------------------------------------------------------------------------------------------

_CHOICE = st.integers(0, 2**20 - 1)
_KNOWN = ("c", "", "Ready", "BackOff", "d", TIME, "100m", "1Gi", HONEST_IP, "container_memory_rss", "cpu", DIGEST)
_TEXTS = (*_KNOWN, "x" * 60)
_EDGES = (0, 1, 2**31 - 1, 2**63 - 1, -1, -(2**63) + 1, 10**9)
_FIGURES = (0.0, 1.0, 5e-324, 1e18, float(2**63))
_UIDS = (OWN_UID, OWN_UID, OWN_UID, OWN_UID, HONEST_UID, OTHER_UID, "")
_PHASES = ("Running",) * 8 + ("Pending", "Unknown", "Succeeded", "Failed")
_TIMES = (*["9999-12-31T23:59:59Z"] * 12, TIME, "2028-02-29T00:00:00.000000001Z")
"""Mostly far away: a notice of a time that has passed ends the instance."""

Draw = st.DrawFn
Maker = Callable[[Draw], Any]


def pick(draw: Draw, choices: Sequence[Any]) -> Any:
    """One of them; a single number is drawn, as that is what costs."""
    return choices[draw(_CHOICE) % len(choices)]


def build_maker(kind: inspect.Type) -> Maker:
    """Draws values that the schema allows. Texts are mostly those that a pod knows; lists are short."""
    match kind:
        case inspect.TypedDictType(fields=fields):
            return _build_object_maker(fields)
        case inspect.UnionType(types=types):
            makers = [build_maker(item) for item in types]
            return lambda draw: pick(draw, makers)(draw)
        case inspect.ListType(item_type=item):
            of_item = build_maker(item)
            return lambda draw: [of_item(draw) for _ in range(draw(_CHOICE) % 3)]
        case inspect.TupleType(item_types=items):
            of_items = [build_maker(item) for item in items]
            return lambda draw: [maker(draw) for maker in of_items]
        case inspect.DictType(key_type=key, value_type=value):
            of_key, of_value = build_maker(key), build_maker(value)
            return lambda draw: {of_key(draw): of_value(draw) for _ in range(draw(_CHOICE) % 3)}
        case inspect.LiteralType(values=values):
            return lambda draw: pick(draw, values)
        case inspect.StrType():
            return _build_text_maker(kind)
        case inspect.IntType(ge=low, le=high):
            return _build_number_maker(_EDGES, low, high, st.integers(low, high))
        case inspect.FloatType(ge=low, le=high):
            return _build_number_maker(_FIGURES, low, high, st.floats(low, high))
        case inspect.BoolType():
            return lambda draw: draw(_CHOICE) % 2 == 1
        case inspect.NoneType():
            return lambda draw: None
    raise AssertionError(f"the schema has a new kind of type: {kind}")


def _build_object_maker(fields: Sequence[inspect.Field]) -> Maker:
    required = [(item.encode_name, _build_field_maker(item)) for item in fields if item.required]
    optional = [(item.encode_name, _build_field_maker(item)) for item in fields if not item.required]

    def make(draw: Draw) -> Json:
        bits = draw(_CHOICE) if optional else 0
        there = [field for number, field in enumerate(optional) if bits >> number % 20 & 1]
        return {name: maker(draw) for name, maker in [*required, *there]}

    return make


def _build_field_maker(field: inspect.Field) -> Maker:
    known = {"podUID": _UIDS, "phase": _PHASES, "time": _TIMES}.get(field.encode_name)
    return build_maker(field.type) if known is None else lambda draw: pick(draw, known)


def _build_number_maker(edges: Sequence[Any], low: Any, high: Any, free: st.SearchStrategy[Any]) -> Maker:
    allowed = [number for number in edges if (low is None or number >= low) and (high is None or number <= high)]
    return lambda draw: draw(free) if (choice := draw(_CHOICE)) % 4 == 3 else allowed[choice % len(allowed)]


def _build_text_maker(kind: inspect.StrType) -> Maker:
    decoder = msgspec.json.Decoder(Annotated[str, msgspec.Meta(max_length=kind.max_length, pattern=kind.pattern)])
    known = [text for text in _TEXTS if _is_allowed(decoder, text)]
    if kind.pattern is None:
        free: st.SearchStrategy[str] = st.text(max_size=20)
    else:
        free = st.from_regex(kind.pattern).filter(lambda text: _is_allowed(decoder, text))
    return lambda draw: draw(free) if (choice := draw(_CHOICE)) % 16 == 15 or not known else known[choice % len(known)]


def _is_allowed(decoder: msgspec.json.Decoder[Any], text: str) -> bool:
    try:
        decoder.decode(json.dumps(text))
    except msgspec.ValidationError:
        return False
    return True


_MAKERS = [build_maker(inspect.type_info(kind)) for kind in get_args(UpMessage)]

# --- changed ---------------------------------------------------------------------------------------------------------


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


_REPLACEMENTS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(HOSTILE_NUMBERS),
    st.sampled_from(HOSTILE_TEXTS),
    st.sampled_from([[], {}, [None], {"name": 1}, {"": {}}, [[]] * 2_000]),
    st.integers(1, 400).map(_nested),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)


_CHANGES = ("replace", "replace", "replace", "remove", "double", "rename", "add")


def _change(draw: Draw, document: Json) -> None:
    """Replace something, take it out, double it, or give it a strange name."""
    path = pick(draw, find_paths(document) or [("type",)])
    target: Any = document
    for step in path[:-1]:
        target = target[step]
    key = path[-1]
    match pick(draw, _CHANGES):
        case "remove" if key in target or isinstance(target, list):
            del target[key]
        case "double" if isinstance(target, list):
            target.extend([target[key]] * pick(draw, (1, 3, 40)))
        case "rename" if isinstance(target, dict):
            target[pick(draw, HOSTILE_TEXTS[:12])] = target.pop(key, None)
        case "add" if isinstance(target, dict):
            target[pick(draw, HOSTILE_TEXTS)] = copy.deepcopy(draw(_REPLACEMENTS))
        case _:
            target[key] = copy.deepcopy(draw(_REPLACEMENTS))


def encode(value: Any) -> bytes:
    """Python's JSON: it writes NaN, Infinity, lone surrogates and integers of any length."""
    return json.dumps(value).encode()


_PIECES = (b"\xff\xfe", b"\x00", b"NaN", b"-Infinity", b"\xed\xa0\x80", b"[" * 2_000, b'"', b"1e400", b"//")
_KEYS = (b'"type"', b'"podUID"', b'"status"')
_VALUES = (b"[]", b"null", b'"stats"', b'"x"')


def _change_fields(draw: Draw, template: Json) -> bytes:
    document: Json = json.loads(json.dumps(template))
    for _ in range(1 + draw(_CHOICE) % 3):
        _change(draw, document)
    return encode(document)


def _change_bytes(draw: Draw, template: Json) -> bytes:
    """A valid message with a hole, something in its middle, without its end, or with another behind it."""
    data = encode(template)
    at = draw(_CHOICE) % len(data)
    match draw(_CHOICE) % 5:
        case 0:
            return data[:at]
        case 1:
            return data[:at] + pick(draw, _PIECES) + data[at:]
        case 2:
            return data[:at] + data[at + 1 + draw(_CHOICE) % 20 :]
        case 3:
            return data + encode(pick(draw, TEMPLATES))
    return data[:-1] + b"," + pick(draw, _KEYS) + b":" + pick(draw, _VALUES) + b"}"


# --- of any kind -----------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_KINDS = (*KINDS, "pod", "ack", "stop", "")
_FIELDS = ("status", "finished", "pod", "node", "seq", "reason", "count", "message", "version")


@st.composite
def messages(draw: Draw) -> bytes:
    """One message. The simplest, to which a failure shrinks, is a status that the schema allows."""
    match draw(_CHOICE) % 10:
        case 0 | 1 | 2:
            return encode(pick(draw, _MAKERS)(draw))
        case 3 | 4 | 5:
            return _change_fields(draw, pick(draw, TEMPLATES))
        case 6:
            return _change_bytes(draw, pick(draw, TEMPLATES))
        case 7:
            rest = {pick(draw, _FIELDS): draw(_JSON) for _ in range(draw(_CHOICE) % 4)}
            return encode({"podUID": OWN_UID, **rest, "type": pick(draw, _KINDS)})
        case 8:
            return encode(draw(_JSON))
    return draw(st.binary(max_size=200))


@st.composite
def messages_like(draw: Draw, kind: type, template: Json) -> bytes:
    """Of one kind alone: half of them by its schema, the rest changed ones."""
    match draw(_CHOICE) % 4:
        case 0 | 1:
            return encode(build_maker(inspect.type_info(kind))(draw))
        case 2:
            return _change_fields(draw, template)
    return _change_bytes(draw, template)


MESSAGES = messages()
