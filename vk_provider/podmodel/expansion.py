"""`$(VAR)` references in env values, commands, arguments and subPathExpr.

`$(NAME)` is replaced when NAME is known and left as it is otherwise; `$$` is an escaped `$`.
Source: API documentation of EnvVar.value and Container.command.
"""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, *variables: Mapping[str, str]) -> str:
    """Expand the references in `text`; the first mapping that knows a name wins."""
    parts: list[str] = []
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0 or dollar + 1 == len(text):
            parts.append(text[position:])
            return "".join(parts)
        parts.append(text[position:dollar])
        follower = text[dollar + 1]
        if follower == "$":
            parts.append("$")
            position = dollar + 2
            continue
        end = text.find(")", dollar + 2) if follower == "(" else -1
        if end < 0:
            parts.append(text[dollar : dollar + 2])
            position = dollar + 2
            continue
        parts.append(_resolve(text[dollar + 2 : end], variables))
        position = end + 1


def _resolve(name: str, variables: tuple[Mapping[str, str], ...]) -> str:
    for mapping in variables:
        if name in mapping:
            return mapping[name]
    return f"$({name})"


def find_missing(text: str, variables: Mapping[str, str]) -> list[str]:
    """Return the names that `text` refers to and `variables` does not hold, in order."""
    missing: list[str] = []

    class _Recorder(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            if name not in variables:
                missing.append(str(name))
                return False
            return True

        def __getitem__(self, name: str) -> str:
            return variables[name]

    expand(text, _Recorder())
    return missing
