"""Patterns with wildcards, matched without regular expressions: users write them, and what one costs grows with its
length alone. Pure."""

from __future__ import annotations

MAX_PATTERN = 256
"""Characters. No name that is matched here is as long."""


def matches_glob(text: str, pattern: str) -> bool:
    """Whether the whole text is what the pattern says: `*` any characters, `?` one, `[a-c]` one of these, `[!a-c]` or
    `[^a-c]` one of the others; a bracket that is not closed is itself. A pattern that is too long matches nothing."""
    if len(pattern) > MAX_PATTERN:
        return False
    place = position = 0
    star = retry = -1
    while position < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, retry = place, position
            place += 1
            continue
        step = _match_one(text[position], pattern, place)
        if step:
            place, position = place + step, position + 1
        elif star >= 0:  # the last star takes one more; those before it need not be tried again
            retry += 1
            place, position = star + 1, retry
        else:
            return False
    return not pattern[place:].strip("*")


def _match_one(character: str, pattern: str, place: int) -> int:
    """How much of the pattern the character is, 0 when it is not."""
    if place >= len(pattern):
        return 0
    first = pattern[place]
    if first == "?":
        return 1
    end = pattern.find("]", place + 3 if pattern[place + 1 : place + 2] in ("!", "^") else place + 2)
    if first != "[" or end < 0:
        return int(first == character)
    is_negated = pattern[place + 1] in "!^"
    allowed = pattern[place + 1 + is_negated : end]
    return end + 1 - place if _is_among(character, allowed) != is_negated else 0


def _is_among(character: str, allowed: str) -> bool:
    place = 0
    while place < len(allowed):
        if allowed[place + 1 : place + 2] == "-" and place + 2 < len(allowed):
            if allowed[place] <= character <= allowed[place + 2]:
                return True
            place += 3
        elif allowed[place] == character:
            return True
        else:
            place += 1
    return False
