"""Elements of HTML and SVG as text. Everything that is not an element made here is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

MAX_TEXT = 80


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element. Attributes: `class_` is class, `_` stands for `-`; one that is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Iterable[object]) -> Markup:
    return Markup("".join(each if isinstance(each, Markup) else _escape(each) for each in content))


def _escape(value: object) -> str:
    return escape("".join(character if character.isprintable() else "?" for character in str(value)), quote=True)


def cut(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_moment(seconds: float) -> str:
    """Unix seconds, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
