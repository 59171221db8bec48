"""Environment files of fileKeyRef (KEP-3721): `NAME='value'` lines, a small subset of POSIX shell.

Values stand in single quotes, may span lines, and are taken literally; comments and blank lines are skipped.
"""

from __future__ import annotations

from vk_provider.podmodel.errors import PodModelError

_FORMAT = "invalid environment variable format"


def parse_env_file(text: str, key: str) -> str:
    """Return the value of `key`, "" when the file does not set it; raises PodModelError for a malformed line."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    number = 0
    while number < len(lines):
        line = lines[number].lstrip(" \t")
        number += 1
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        _check_name(name, equals, number)
        if rest[:1] in (" ", "\t"):
            if name == key:
                return ""
            continue
        if not rest.startswith("'"):
            # An assignment of nothing is a missing quote as well: the format has no unquoted form.
            raise PodModelError(f"{_FORMAT} at line {number}: value must be enclosed in single quotes")
        value, number = _read_quoted(rest[1:], lines, number)
        if name == key:
            return value
    return ""


def _check_name(name: str, equals: str, number: int) -> None:
    if not equals:
        raise PodModelError(f"{_FORMAT} at line {number}: missing '='")
    if not name.rstrip(" \t"):
        raise PodModelError(f"{_FORMAT} at line {number}: empty variable name")
    if name != name.rstrip(" \t"):
        raise PodModelError(f"{_FORMAT} at line {number}: whitespace before '=' is not allowed")


def _read_quoted(rest: str, lines: list[str], number: int) -> tuple[str, int]:
    start = number
    parts: list[str] = []
    while "'" not in rest:
        parts.append(rest)
        if number >= len(lines):
            raise PodModelError(f"{_FORMAT} starting at line {start}: unclosed single quote")
        rest = lines[number]
        number += 1
    inside, _, after = rest.partition("'")
    parts.append(inside)
    after = after.lstrip(" \t")
    if after and not after.startswith("#"):
        raise PodModelError(f"{_FORMAT} at line {number}: unexpected content after closing quote")
    return "\n".join(parts), number
