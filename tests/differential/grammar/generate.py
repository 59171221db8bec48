"""Random cases by seed: features alone, in pairs and in triples."""

from __future__ import annotations

import random

from tests.differential.case import Case
from tests.differential.grammar import (
    confinement,
    deeds,
    lives,
    placement,
    probes,
    processes,
    sources,
    surroundings,
    volumes,
)
from tests.differential.grammar.draft import Draft
from tests.differential.grammar.registry import ACTIONS, FEATURES

__all__ = ["build", "generate"]
assert all(
    (confinement, deeds, lives, placement, probes, processes, sources, surroundings, volumes)
)  # importing them fills the lists

SIZES = (1, 2, 2, 2, 3, 3)


def build(name: str, seed: str, parts: tuple[str, ...]) -> Case:
    """The case of these features and actions. Each part draws from a generator of its own, so that the case without
    one of them is the same in all others."""
    draft = Draft(random.Random(seed))
    for part in parts:
        draft.random = random.Random(f"{seed} {part}")
        (FEATURES.get(part) or ACTIONS[part])(draft)
    return draft.finish(name, parts)


def generate(seed: int, index: int) -> Case:
    """Case number `index` of `seed`: each feature and each action alone first, in an order of the seed's; then pairs
    and triples of features, two of three with an action or two."""
    everything = [*sorted(FEATURES), *sorted(ACTIONS)]
    random.Random(seed).shuffle(everything)
    name = f"{seed}-{index:04d}"
    if index < len(everything):
        return build(name, name, (everything[index],))
    choice = random.Random(name)
    features = choice.sample(sorted(FEATURES), choice.choice(SIZES))
    actions = choice.sample(sorted(ACTIONS), choice.choice((0, 1, 2)))
    return build(name, name, (*features, *actions))
