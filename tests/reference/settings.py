"""Settings, from their dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import orjson

from tests.reference.docstrings import read_fields
from tests.reference.markdown import code, table
from vk_provider import settings as module
from vk_provider.cloud.discovery import find_backends, load_backend
from vk_provider.settings import Settings
from vk_provider.settings.build import describe_limit, list_keys


def build() -> str:
    parts = ["## Settings\n", *(f"{line}\n" for line in (module.__doc__ or "").strip().split("\n\n"))]
    for name, kind in list_tables():
        parts += [f"### {name}\n", describe(kind)]
    return "\n".join(parts)


def list_tables() -> Iterator[tuple[str, type]]:
    """All tables of the file, by the name that the file gives them. Without those of clouds of other distributions."""
    for name, kind in _list_below(Settings, ""):
        yield name, kind
        if name == "[cloud]":
            own = sorted(name for name, entry in find_backends().items() if entry.dist is None)
            for backend in own:
                kind = load_backend(backend).settings
                yield f"[cloud.{backend}]", kind
                yield from _list_below(kind, f"cloud.{backend}.")


def _list_below(kind: type, prefix: str) -> Iterator[tuple[str, type]]:
    hints = get_type_hints(kind)
    for item in list_keys(kind):
        found, is_list = _element(hints[item.name])
        if is_dataclass(found) and isinstance(found, type):
            name = f"{prefix}{item.name}"
            if _is_mapping(hints[item.name]):
                name = f"{name}.<name>"
            yield (f"[[{name}]]" if is_list else f"[{name}]"), found
            yield from _list_below(found, f"{name}.")


def _element(hint: Any) -> tuple[Any, bool]:
    """The type of a value, or of the elements of a list or a mapping."""
    if _is_mapping(hint):
        return get_args(hint)[1], False
    return (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)


def _is_mapping(hint: Any) -> bool:
    return get_origin(hint) is Mapping


def list_unexplained(kind: type) -> list[str]:
    """Keys that the docstring of the class does not name."""
    of_fields = _read_fields(kind)[1]
    keys = [item.name for item in list_keys(kind) if not _is_table(kind, item)]
    return [key for key in keys if not of_fields.get(key)]


def _read_fields(kind: type) -> tuple[str, dict[str, str]]:
    """Tables below this one, too: where their entry begins, that of the key before ends."""
    return read_fields(kind, [item.name for item in list_keys(kind)])


def _is_table(kind: type, item: Field[Any]) -> bool:
    return is_dataclass(_element(get_type_hints(kind)[item.name])[0])


def describe(kind: type) -> str:
    hints = get_type_hints(kind, include_extras=True)
    keys = [item for item in list_keys(kind) if not _is_table(kind, item)]
    about, of_fields = _read_fields(kind)
    rows = [(code(item.name), _name(hints[item.name]), _default(item), of_fields.get(item.name, "")) for item in keys]
    return f"{about}\n\n" * bool(about) + table(("key", "value", "default", "what it is"), rows)


def _name(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_name(arguments[0])}, {' and '.join(map(describe_limit, arguments[1:]))}"
    if origin is Literal:
        return ", ".join(_value(each) for each in arguments)
    if origin is UnionType:
        return _name(arguments[0])
    if origin is tuple:
        return f"list of {_name(arguments[0])}"
    if origin is not None:
        return f"table of {_name(arguments[1])}" if not is_dataclass(arguments[1]) else "tables"
    return {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]


def _default(item: Field[Any]) -> str:
    if item.default is MISSING and item.default_factory is MISSING:
        return "required"
    if item.default is None:
        return "no value"
    return _value(item.default_factory() if item.default_factory is not MISSING else item.default)


def _value(value: Any) -> str:
    """As in TOML, where strings, numbers, booleans and lists are as in JSON; an inline table has `=`."""
    if isinstance(value, dict):
        return code("{" + ", ".join(f"{key} = {orjson.dumps(each).decode()}" for key, each in value.items()) + "}")
    return code(orjson.dumps(value).decode())
