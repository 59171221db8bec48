"""Makes the tables' dataclasses of what the file says.

msgspec judges each value by its type and limits. The walk through tables, lists and mappings is ours, for what its
errors do not tell: the key within a mapping (`$.labels[...]`), the value that was found, the choices of a Literal, and
the keys that a dataclass has; others it ignores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

NOT_A_KEY = {"key": False}
"""Metadata of a dataclass field that no key of the file sets."""

Builder = Callable[[Any, str], Any]
"""(what the file says, name of the key for errors) to the value of a field."""


class SettingError(Exception):
    """One line that names the key."""


def list_keys(table: Any) -> list[Field[Any]]:
    """The fields of a table's dataclass that are keys of the file."""
    return [item for item in fields(table) if item.metadata.get("key", True)]


def build_table(
    table: Any,
    value: Any,
    where: str,
    builders: Mapping[str, Builder] | None = None,
    beside: Collection[str] = (),
) -> Any:
    """An instance of the dataclass `table`. Raises SettingError.

    where:    the table's own name, "" for the whole file
    builders: for fields that need more than their type says
    beside:   keys that the caller takes out of `value` itself, to name them among the known ones
    """
    if not isinstance(value, dict):
        raise SettingError(f"{where} must be a table")
    keys, hints = list_keys(table), get_type_hints(table, include_extras=True)
    known = {item.name for item in keys}
    if unknown := sorted(set(value) - known):
        listed = ", ".join(sorted({*known, *beside}))
        raise SettingError(f"unknown key {join(where, unknown[0])} (known here: {listed})")
    arguments = {}
    for item in keys:
        path = join(where, item.name)
        if item.name not in value:
            if item.default is MISSING and item.default_factory is MISSING:
                raise SettingError(f"{path} is missing")
        elif builders and item.name in builders:
            arguments[item.name] = builders[item.name](value[item.name], path)
        else:
            arguments[item.name] = _build(hints[item.name], value[item.name], path)
    return table(**arguments)


def join(where: str, key: str) -> str:
    """The name of a key of a table."""
    return f"{where}.{key}" if where else key


def _build(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return build_table(hint, value, where)
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise SettingError(f"{where} must be a list")
        return tuple(_build(get_args(hint)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise SettingError(f"{where} must be a table")
        return {key: _build(get_args(hint)[1], item, join(where, key)) for key, item in value.items()}
    return _convert(hint, value, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):  # for msgspec, inf is more than any limit
        raise SettingError(f"{where} must be a finite number, not {value!r}")
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        raise SettingError(f"{where} must be {_describe(hint, value)}, not {value!r}") from None


def _describe(hint: Any, value: Any) -> str:
    """What a refused value must be."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if get_origin(hint) is UnionType:  # or no value, which a file cannot say
        return _describe(get_args(hint)[0], value)
    if get_origin(hint) is not Annotated:
        return f"a {getattr(hint, '__name__', hint)}"
    kind, *limits = get_args(hint)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return _describe(kind, value)
    return " and ".join(filter(None, map(describe_limit, limits)))


def describe_limit(limit: msgspec.Meta) -> str:
    """ "more than 0"."""
    if limit.description:
        return limit.description
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return " and ".join(f"{text} {end}" for name, text in words.items() if (end := getattr(limit, name)) is not None)
