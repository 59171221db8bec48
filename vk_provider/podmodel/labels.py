"""Names and values of labels; label selectors, as text and as metav1.LabelSelector. Pure.

Source: apimachinery's validation (IsQualifiedName, IsValidLabelValue), pkg/labels/selector.go (Parse, Matches) and
pkg/apis/meta/v1 (LabelSelectorAsSelector).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vk_provider.jsontypes import Json

_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_COMPARISON = re.compile(r"(?P<key>[^\s=!<>(),]+)\s*(?P<operator>==|=|!=|>|<)\s*(?P<values>[^\s=!<>(),]*)")
_SET = re.compile(r"(?P<key>[^\s=!<>(),]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_PRESENCE = re.compile(r"(?P<operator>!?)\s*(?P<key>[^\s=!<>(),]+)")
_SEPARATOR = re.compile(r",(?![^(]*\))")
_INTEGER = re.compile(r"[+-]?[0-9]{1,63}")
"""A label's value has 63 characters at most."""
_API_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
_OPERATORS = {
    "=": "In",
    "==": "In",
    "in": "In",
    "!=": "NotIn",
    "notin": "NotIn",
    "": "Exists",
    "!": "DoesNotExist",
    ">": "Gt",
    "<": "Lt",
}
"""As written in a selector's text -> as the API names it."""


def is_subdomain(text: str) -> bool:
    return bool(_SUBDOMAIN.fullmatch(text))


def is_label_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or is_subdomain(prefix))


def is_label_value(text: str) -> bool:
    return not text or bool(_NAME.fullmatch(text))


def is_int64(text: str) -> bool:
    """Whether strconv.ParseInt(text, 10, 64) takes it."""
    return bool(_INTEGER.fullmatch(text)) and -(1 << 63) <= int(text) < 1 << 63


@dataclass(frozen=True, slots=True)
class Requirement:
    """One part of a selector. operator: as the API names it, and Gt or Lt, which a LabelSelector has not."""

    key: str
    operator: str
    values: Sequence[str] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
        if value is None or len(self.values) != 1 or not (is_int64(value) and is_int64(self.values[0])):
            return False
        held, limit = int(value), int(self.values[0])
        return held > limit if self.operator == "Gt" else held < limit


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must match."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


def matches_selector(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Of a metav1.LabelSelector. None matches nothing, an empty one everything; a requirement that cannot be read
    matches nothing."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_matches_expression(expression, labels) for expression in selector.get("matchExpressions") or [])


def _matches_expression(expression: Json, labels: Mapping[str, str]) -> bool:
    operator = expression.get("operator")
    if operator not in _API_OPERATORS:
        return False
    return Requirement(expression.get("key") or "", operator, expression.get("values") or ()).matches(labels)


def parse_selector(text: str) -> Selector:
    """A selector as `kubectl -l` takes it: "app=web, tier in (a, b), !beta". Raises ValueError."""
    return Selector(tuple(_parse_requirements(text)))


def _parse_requirements(text: str) -> Iterator[Requirement]:
    for part in map(str.strip, _SEPARATOR.split(text)):
        found = _SET.fullmatch(part) or _COMPARISON.fullmatch(part)
        values: tuple[str, ...] = ()
        if found is not None:
            operator = _OPERATORS[found["operator"]]
            values = tuple(value.strip() for value in found["values"].split(","))
        else:
            found = _PRESENCE.fullmatch(part)
            if found is None:
                raise ValueError(f"{part!r} is no requirement on a label")
            operator = _OPERATORS[found["operator"]]
        if not is_label_key(found["key"]):
            raise ValueError(f"{found['key']!r} is not a label key")
        for value in values:
            if not (is_int64(value) if operator in ("Gt", "Lt") else is_label_value(value)):
                raise ValueError(f"{value!r} is not a value for {found['key']}")
        yield Requirement(found["key"], operator, values)
