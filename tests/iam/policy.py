"""Evaluates a policy as IAM does: a need is allowed by a statement whose action, resource and conditions all match."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

PROVIDER = Path(__file__).parents[2] / "manifests" / "iam" / "provider.json"


@dataclass(frozen=True, slots=True)
class Need:
    """One authorization of a call: AWS asks for an action on each resource. context: condition keys of the request."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


class Policy:
    """`used`: the actions that something was allowed by."""

    def __init__(self, statements: Iterable[Mapping[str, Any]]) -> None:
        self._statements = list(statements)
        self.used: set[str] = set()

    def allows(self, need: Need) -> bool:
        """No statement of these policies denies anything."""
        for statement in self._statements:
            assert statement["Effect"] == "Allow"
            if not _matches(statement["Action"], need.action) or not _matches(statement["Resource"], need.resource):
                continue
            if all(_holds(*each, need.context) for each in statement.get("Condition", {}).items()):
                self.used.add(need.action)
                return True
        return False

    def actions(self) -> Iterator[str]:
        for statement in self._statements:
            yield from _list(statement["Action"])


def read_provider_policy(owner: str, queue: str = "QUEUE", cluster: str = "CLUSTER") -> Policy:
    """manifests/iam/provider.json with its placeholders filled in."""
    text = PROVIDER.read_text()
    for placeholder, value in (("OWNER", owner), ("QUEUE", queue), ("CLUSTER", cluster)):
        assert placeholder in text
        text = text.replace(placeholder, value)
    return Policy(json.loads(text)["Statement"])


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _matches(patterns: Any, name: str) -> bool:
    """IAM's * and ?; "*" as the resource of a need is a call that names none."""
    return any("[" not in pattern and fnmatchcase(name, pattern) for pattern in _list(patterns))


def _holds(operator: str, wanted: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    if operator not in ("StringEquals", "StringEqualsIfExists"):
        raise NotImplementedError(f"the condition {operator} is not evaluated here")
    for key, values in wanted.items():
        found = context.get(key)
        if found is None:
            if operator == "StringEquals":
                return False
        elif found not in _list(values):
            return False
    return True
