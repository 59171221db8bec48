"""Events, from the sentences of vk_provider.eventreasons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.reference.docstrings import read_constants
from tests.reference.markdown import code, table
from vk_provider import eventreasons

_SENTENCE = re.compile(
    r"(?P<types>(?:Normal|Warning)(?: or Warning)?), (?P<processes>agent|provider|agent and provider) "
    r"\((?P<source>[a-z-]+)(?:, about the (?P<about>\w+))?\): (?P<when>.+?)(?: Do: (?P<do>.+))?"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One reason. name: of the constant in eventreasons; types: its events' types; processes: who records it."""

    name: str
    reason: str
    types: frozenset[str]
    processes: frozenset[str]
    source: str
    about: str
    when: str
    do: str


@cache
def list_events() -> tuple[Event, ...]:
    """All reasons, in the order of eventreasons. Raises ValueError: a sentence has another form."""
    return tuple(_parse(name, text) for name, text in read_constants(eventreasons).items())


def _parse(name: str, text: str) -> Event:
    match = _SENTENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"the sentence of eventreasons.{name} has another form: {text}")
    value = getattr(eventreasons, name)
    return Event(
        name=name,
        reason=value("<resource>") if callable(value) else value,
        types=frozenset(match["types"].split(" or ")),
        processes=frozenset(match["processes"].split(" and ")),
        source=match["source"],
        about=match["about"] or "Pod",
        when=match["when"],
        do=match["do"] or "",
    )


def build() -> str:
    heads = ("reason", "type", "about", "said by", "source", "when", "what to do")
    rows = [
        (
            code(event.reason),
            " or ".join(sorted(event.types)),
            event.about,
            " and ".join(sorted(event.processes)),
            event.source,
            event.when,
            event.do,
        )
        for event in sorted(list_events(), key=lambda event: (event.about, event.reason))
    ]
    return f"## Events\n\n{table(heads, rows)}"
