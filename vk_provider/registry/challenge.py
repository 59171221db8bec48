"""WWW-Authenticate as registries send it (RFC 9110, section 11.6.1; distribution's token specification). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PARAMETER = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SEPARATOR = re.compile(r"\s*,?\s*")
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z]+)(?=\s|$)(?!\s*=)")
MAX_HEADER = 4096


@dataclass(frozen=True, slots=True)
class Challenge:
    """scheme: "basic" or "bearer"; parameters: by lower-case name."""

    scheme: str
    parameters: Mapping[str, str]


def find_challenge(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: Bearer, else Basic; None where there is neither."""
    found = [challenge for text in headers for challenge in _parse(text[:MAX_HEADER])]
    for scheme in ("bearer", "basic"):
        for challenge in found:
            if challenge.scheme == scheme:
                return challenge
    return None


def _parse(text: str) -> list[Challenge]:
    challenges, position = [], 0
    while match := _SCHEME.match(text, position):
        position, parameters = match.end(), {}
        while inner := _SEPARATOR.match(text, position):
            parameter = _PARAMETER.match(text, inner.end())
            if parameter is None:
                break
            value = parameter[2] if parameter[2] is not None else parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", value)
            position = parameter.end()
        challenges.append(Challenge(match[1].lower(), parameters))
    return challenges
