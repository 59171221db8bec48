"""Generators (hypothesis) of what a hostile agent says up its session: bytes of one message each.

A third is valid by the schema, a third are valid messages that were changed, the rest is JSON and bytes of any kind.
Names of what a test does not know beforehand are placeholders: `fill` puts the real ones in.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from tests.jwt import make_token
from tests.listener import hello
from vk_provider.jsontypes import Json
from vk_provider.wire.session import FEATURES, UpMessage
from vk_provider.wire.tables import TABLES_FEATURE

OWN_UID = "00000000-0000-4000-8000-00000000000a"
HONEST_UID = "00000000-0000-4000-8000-00000000000b"
OTHER_UID = "00000000-0000-4000-8000-00000000000c"
HONEST_IP = "192.0.2.7"
TIME = "2026-11-28T10:00:00Z"
IMAGE = "127.0.0.1:9/hostile/i:1"
"""Of every pod: at a registry that nobody is."""


def fill(data: bytes, own_uid: str, honest_uid: str, honest_ip: str) -> bytes:
    """The message with the real names."""
    for placeholder, value in ((OWN_UID, own_uid), (HONEST_UID, honest_uid), (HONEST_IP, honest_ip)):
        data = data.replace(placeholder.encode(), value.encode())
    return data


# --- by the schema ---------------------------------------------------------------------------------------------------

_CHOICE = st.integers(0, 2**20 - 1)
DIGEST = "sha256:" + "0" * 64
ALL_FEATURES = (*FEATURES, TABLES_FEATURE)
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

_CONTAINER = {
    "name": "c",
    "state": {"running": {"startedAt": TIME}},
    "lastState": {"terminated": {"exitCode": 137, "startedAt": None, "finishedAt": None}},
    "ready": True,
    "started": True,
    "restartCount": 1,
    "image": "i:1",
    "imageID": "i@sha256:00",
    "containerID": "containerd://ab",
    "resources": {"requests": {"cpu": "100m"}},
    "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
}
_STATUS = {
    "type": "status",
    "podUID": OWN_UID,
    "finished": False,
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": TIME}],
        "hostIP": HONEST_IP,
        "podIP": HONEST_IP,
        "podIPs": [{"ip": HONEST_IP}],
        "startTime": TIME,
        "containerStatuses": [_CONTAINER],
    },
}
_EVENT = {
    "type": "event",
    "seq": 7,
    "podUID": OWN_UID,
    "eventType": "Warning",
    "reason": "BackOff",
    "message": "back-off",
    "fieldPath": "spec.containers{c}",
    "timestamp": TIME,
    "count": 2,
}
_CPU = {"time": TIME, "usageCoreNanoSeconds": 10, "usageNanoCores": 5}
_MEMORY = {"time": TIME, "workingSetBytes": 1000, "usageBytes": 1000, "rssBytes": 900}
_STATS = {
    "type": "stats",
    "podUID": OWN_UID,
    "timestamp": TIME,
    "pod": {
        "podRef": {"name": "honest", "namespace": "ns", "uid": HONEST_UID},
        "startTime": TIME,
        "cpu": _CPU,
        "memory": _MEMORY,
        "containers": [{"name": "c", "startTime": TIME, "cpu": _CPU, "memory": _MEMORY}],
        "network": {"time": TIME, "name": "eth0", "rxBytes": 1, "interfaces": [{"name": "eth0", "rxBytes": 1}]},
        "volume": [{"name": "v", "time": TIME, "usedBytes": 1}],
    },
    "node": {"cpu": _CPU, "memory": _MEMORY, "fs": {"time": TIME, "availableBytes": 4096}, "network": {"rxBytes": 3}},
    "cadvisor": [{"container": "c", "id": "/x", "samples": [["container_memory_rss", {"device": "sda"}, 1]]}],
    "probes": [{"container": "c", "probeType": "Liveness", "result": "successful", "count": 1}],
}
_HELLO = hello("i-1", OWN_UID, ALL_FEATURES)
_TABLES = {"type": "tables", "name": "services", "tables": {"services": "1::2"}, "error": "nft: no space"}
_IMAGES = {
    "type": "images",
    "podUID": OWN_UID,
    "images": [
        {"image": "r.io/a/b:1", "digests": [DIGEST], "sizeBytes": 7, "pulled": True, "seconds": 0.5},
        {"image": IMAGE, "digests": [DIGEST], "sizeBytes": 7, "pulled": True, "seconds": 0.5, "peerBytes": 7},
    ],
}
IDENTITY: Json = {
    "type": "identity",
    "podUID": OWN_UID,
    "tokens": [make_token(OWN_UID), make_token(HONEST_UID), make_token(OWN_UID, audience="other")],
}
_BLOBS = {
    "type": "blobs",
    "podUID": OWN_UID,
    "wanted": [DIGEST],
    "fetching": [DIGEST],
    "held": ["sha256:" + "1" * 64],
    "failed": [{"digest": DIGEST, "instance": "i-1"}],
    "peerBytes": 1,
    "registryBytes": 2,
}
_NOTICE = {"type": "notice", "podUID": OWN_UID, "action": "terminate", "time": "9999-12-31T23:59:59Z"}
_TEMPLATES: tuple[Json, ...] = (_STATUS, _EVENT, _STATS, _HELLO, _TABLES, _IMAGES, IDENTITY, _BLOBS, _NOTICE)
KINDS = tuple(template["type"] for template in _TEMPLATES)
"""Of messages up."""
assert len(set(KINDS)) == len(get_args(UpMessage)), "a kind of message has no template"

_HOSTILE_TEXTS = (
    "/etc/logrotate.d/evil",
    "../../../../tmp/evil",
    "line\nanother {} 1\n# TYPE evil counter",
    '"} 1\nevil{x="',
    "\x00\x1b[31m",
    "\ud800",
    "\u202e\u0000",
    "9999-99-99T99:99:99Z",
    "2026-02-31T10:00:00Z",
    "2100-02-29T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59",
    HONEST_UID,
    OTHER_UID,
    HONEST_IP,
    "::1",
    "169.254.169.254",
    "Succeeded",
    "honest",
    "1e999999999",
    "x" * 5_000,
    "x" * 70_000,
)
_HOSTILE_NUMBERS = (-1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**400, 1.7e308, -0.0, 5e-324, 0.1)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


_REPLACEMENTS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_HOSTILE_NUMBERS),
    st.sampled_from(_HOSTILE_TEXTS),
    st.sampled_from([[], {}, [None], {"name": 1}, {"": {}}, [[]] * 2_000]),
    st.integers(1, 400).map(_nested),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of everything in the document, the outermost first."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _paths(item, (*path, key))
    return found


_CHANGES = ("replace", "replace", "replace", "remove", "double", "rename", "add")


def _change(draw: Draw, document: Json) -> None:
    """Replace something, take it out, double it, or give it a strange name."""
    path = pick(draw, _paths(document) or [("type",)])
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
            target[pick(draw, _HOSTILE_TEXTS[:12])] = target.pop(key, None)
        case "add" if isinstance(target, dict):
            target[pick(draw, _HOSTILE_TEXTS)] = copy.deepcopy(draw(_REPLACEMENTS))
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
            return data + encode(pick(draw, _TEMPLATES))
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
            return _change_fields(draw, pick(draw, _TEMPLATES))
        case 6:
            return _change_bytes(draw, pick(draw, _TEMPLATES))
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
