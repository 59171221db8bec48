"""Elements as the kernel takes them (wire.packed) and back: nft needs ten times as long to read their text. Pure.

The types of sets and maps are read from the commands that make them, so what is packed fits them whatever version of
the frame they are of. Only plain ones are packed: elements of sets with intervals or timeouts stay text.

    NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS, and in these for each element
    NFTA_LIST_ELEM: NFTA_SET_ELEM_KEY: NFTA_DATA_VALUE
                    NFTA_SET_ELEM_DATA: NFTA_DATA_VALUE or NFTA_DATA_VERDICT: NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.fragment import Element

_LIST_SET, _LIST_ELEMENTS, _LIST_ELEM, _KEY, _DATA, _VALUE, _VERDICT = 2, 3, 1, 1, 2, 1, 2
_CODE, _CHAIN = 1, 2
_VERDICTS = {"goto": -4, "jump": -3, "drop": 0, "accept": 1}
"""Codes of verdicts (NFT_GOTO, NFT_JUMP, NF_DROP, NF_ACCEPT)."""
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_HEADER = struct.Struct("<HH")
_CODE_FORM = struct.Struct("!i")
_MAX_LIST = 60_000
"""Bytes of elements in one body: the length of an attribute has 16 bits."""
_DEFINITION = re.compile(r"add (?:set|map) inet \S+ (\S+) \{ type ([^:;]+?)(?: : ([^;]+?))? ; \}")


class _Type(NamedTuple):
    """size: bytes of a value; pack raises ValueError for a text that is none."""

    size: int
    pack: Callable[[str], bytes]
    write: Callable[[bytes], str]


def _pack_class(text: str) -> bytes:
    major, minor = text.split(":")
    return (int(major, 16) << 16 | int(minor, 16)).to_bytes(4, "little")


_TYPES = {
    "ipv4_addr": _Type(4, lambda text: bytes(map(int, text.split("."))), lambda data: ".".join(map(str, data))),
    "ipv6_addr": _Type(
        16, lambda text: ipaddress.IPv6Address(text).packed, lambda data: str(ipaddress.IPv6Address(data))
    ),
    "inet_proto": _Type(1, lambda text: int(text).to_bytes(1, "big"), lambda data: str(data[0])),
    "inet_service": _Type(2, lambda text: int(text).to_bytes(2, "big"), lambda data: str(int.from_bytes(data, "big"))),
    "mark": _Type(
        4, lambda text: int(text, 0).to_bytes(4, "little"), lambda data: f"{int.from_bytes(data, 'little'):#x}"
    ),
    "classid": _Type(4, _pack_class, lambda data: write_class(int.from_bytes(data, "little"))),
}


def pack_elements(text: str, elements: Iterable[Element]) -> tuple[list[bytes], list[Element]]:
    """The bodies, and the elements that stay text. text: commands that make the sets and maps."""
    packers = _Packers(text)
    packed: dict[str, list[bytes]] = {}
    others: list[Element] = []
    for element in elements:
        packer = packers[element.container]
        try:
            data = packer.pack(element.key, element.value) if packer is not None else None
        except ValueError:
            data = None
        if data is None:
            others.append(element)
        else:
            packed.setdefault(element.container, []).append(data)
    return [body for name, items in packed.items() for body in _make_bodies(name, items)], others


def _make_bodies(container: str, items: list[bytes]) -> Iterator[bytes]:
    head = _attribute(_LIST_SET, container.encode() + b"\0")
    start = size = 0
    for end, item in enumerate(items):
        if size + len(item) > _MAX_LIST:
            yield head + _attribute(_LIST_ELEMENTS | _NESTED, b"".join(items[start:end]))
            start, size = end, 0
        size += len(item)
    yield head + _attribute(_LIST_ELEMENTS | _NESTED, b"".join(items[start:]))


def _attribute(kind: int, value: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(value), kind) + value + bytes(-len(value) % 4)


def write_packed(text: str, bodies: Iterable[bytes]) -> str:
    """The nft commands that add the elements to the tables of `text`, as write_elements would. Raises ValueError for
    what is not of the types there."""
    table = text.partition("add table inet ")[2].partition("\n")[0]
    types = {found[1]: (found[2], found[3]) for found in map(_DEFINITION.fullmatch, text.splitlines()) if found}
    try:
        return "".join(_write_body(body, table, types) for body in bodies)
    except (LookupError, StopIteration, struct.error) as error:
        raise ValueError(f"packed elements of another form: {error!r}") from None


def _write_body(body: bytes, table: str, types: Mapping[str, tuple[str, str | None]]) -> str:
    parts = dict(_attributes(body))
    name = parts[_LIST_SET].rstrip(b"\0").decode()
    elements = [_write_element(element, *types[name]) for _, element in _attributes(parts[_LIST_ELEMENTS])]
    return f"add element inet {table} {name} {{ {', '.join(elements)} }}\n"


def _write_element(element: bytes, key_types: str, value_types: str | None) -> str:
    parts = dict(_attributes(element))
    key = _write_value(dict(_attributes(parts[_KEY]))[_VALUE], key_types)
    if not value_types:
        return key
    data = dict(_attributes(parts[_DATA]))
    value = _write_value(data[_VALUE], value_types) if _VALUE in data else _write_verdict(data[_VERDICT])
    return f"{key} : {value}"


def _write_value(data: bytes, types: str) -> str:
    names, offset, parts = types.split(" . "), 0, []
    for name in names:
        known = _TYPES[name]
        parts.append(known.write(data[offset : offset + known.size]))
        offset += known.size + -known.size % 4
    return " . ".join(parts)


def _write_verdict(data: bytes) -> str:
    parts = dict(_attributes(data))
    code = _CODE_FORM.unpack(parts[_CODE])[0]
    name = next(name for name, number in _VERDICTS.items() if number == code)
    return f"{name} {parts[_CHAIN].rstrip(bytes(1)).decode()}" if _CHAIN in parts else name


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise ValueError("packed elements of another form")
        yield kind & _TYPE_MASK, data[offset + _HEADER.size : offset + length]
        offset += length + (-length % 4)


class _Fields(dict[str, bytes]):
    """Text of one type -> its bytes, which are made once; most come many times."""

    def __init__(self, kind: _Type, *, padded: bool) -> None:
        super().__init__()
        self._kind = kind
        self._padding = bytes(-kind.size % 4) if padded else b""
        self.size = kind.size + len(self._padding)

    def __missing__(self, text: str) -> bytes:
        try:
            data = self._kind.pack(text)
        except OverflowError:
            data = b""
        if len(data) != self._kind.size:
            raise ValueError(f"no value of a type of {self._kind.size} bytes: {text!r}")
        made = self[text] = data + self._padding
        return made


class _Packers(dict[str, "_Packer | None"]):
    """By set or map; None for those that are not packed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        fields: dict[tuple[str, bool], _Fields] = {}
        for found in map(_DEFINITION.fullmatch, text.splitlines()):
            if found is not None:
                keys, values = _fields(found[2], fields), _fields(found[3] or "", fields)
                is_verdict = found[3] == "verdict"
                if keys and (values or is_verdict or not found[3]):
                    self[found[1]] = _Packer(keys, values, is_verdict=is_verdict)

    def __missing__(self, container: str) -> None:
        self[container] = None


def _fields(types: str, known: dict[tuple[str, bool], _Fields]) -> list[_Fields]:
    """Empty for a type that is not known. Each part of a concatenation takes whole words of 4 bytes."""
    names = types.split(" . ")
    if not all(name in _TYPES for name in names):
        return []
    padded = len(names) > 1
    return [known.setdefault((name, padded), _Fields(_TYPES[name], padded=padded)) for name in names]


class _Packer:
    """The elements of one set or map. What goes around keys and values is made once."""

    def __init__(self, keys: list[_Fields], values: list[_Fields], *, is_verdict: bool) -> None:
        self._keys, self._values, self._is_verdict = keys, values, is_verdict
        self._key_bytes = sum(known.size for known in keys)
        value_bytes = sum(known.size for known in values)
        self._between, self._after = bytes(-self._key_bytes % 4), bytes(-value_bytes % 4)
        around = _attribute(_DATA | _NESTED, _attribute(_VALUE, bytes(value_bytes))) if values else b""
        self._before = _write_head(self._key_bytes, around)
        self._between += around[: 2 * _HEADER.size]
        self._verdicts: dict[str, tuple[bytes, bytes]] = {}

    def pack(self, key: str, value: str) -> bytes:
        """Raises ValueError for what is not of the types."""
        data = _join(self._keys, key)
        if self._is_verdict:
            before, after = self._verdicts.get(value) or self._add_verdict(value)
            return before + data + self._between + after
        if self._values:
            return self._before + data + self._between + _join(self._values, value) + self._after
        return self._before + data + self._between

    def _add_verdict(self, value: str) -> tuple[bytes, bytes]:
        name, _, chain = value.partition(" ")
        if name not in _VERDICTS:
            raise ValueError(f"no verdict: {value!r}")
        parts = _attribute(_CODE, _CODE_FORM.pack(_VERDICTS[name]))
        parts += _attribute(_CHAIN, chain.encode() + b"\0") if chain else b""
        after = _attribute(_DATA | _NESTED, _attribute(_VERDICT | _NESTED, parts))
        made = self._verdicts[value] = _write_head(self._key_bytes, after), after
        return made


def _join(fields: list[_Fields], text: str) -> bytes:
    if len(fields) == 1:
        return fields[0][text]
    return b"".join([known[part] for known, part in zip(fields, text.split(" . "), strict=True)])


def _write_head(key_bytes: int, after: bytes) -> bytes:
    """What goes before a key. after: what follows it."""
    value = _HEADER.size + key_bytes
    key = _HEADER.size + value + -value % 4
    element = _HEADER.size + key + len(after)
    return _HEADER.pack(element, _LIST_ELEM | _NESTED) + _HEADER.pack(key, _KEY | _NESTED) + _HEADER.pack(value, _VALUE)
