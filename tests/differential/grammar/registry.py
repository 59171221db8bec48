"""The list of all features and actions, filled by the modules that define them."""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.grammar.draft import Draft

Part = Callable[[Draft], None]

FEATURES: dict[str, Part] = {}
"""Name -> what writes the feature into a draft."""
ACTIONS: dict[str, Part] = {}
"""Name -> what adds something that is done to the pod."""


def feature(part: Part) -> Part:
    """Register a feature of the pod spec under its function's name."""
    FEATURES[part.__name__.replace("_", "-")] = part
    return part


def action(part: Part) -> Part:
    """Register an action under its function's name."""
    ACTIONS[part.__name__.replace("_", "-")] = part
    return part
