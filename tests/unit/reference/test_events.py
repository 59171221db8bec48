"""Every event has a reason that is listed, with the type and the process that its sentence names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.reference.events import Event, list_events
from tests.unit.reference.test_page import PACKAGE, parse_all

TYPES = ("Normal", "Warning")
TYPE_OF_CALL = {"note": "Normal", "warn": "Warning"}
"""agent.worker.recorder.Recorder."""
AGENTS = ("agent", "cloud/simulated/agent.py")
CONVERTING = {"eventreasons.py", "pods/agent_events.py"}
REASON_LIKE = re.compile(r"[A-Z][A-Za-z]+")


@dataclass(frozen=True)
class Use:
    """A reason of eventreasons as an argument of a call. type: "" where the call does not tell."""

    name: str
    type: str
    process: str


def takes_reason(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("EventReason" in ast.unparse(each.annotation) for each in node.args.args if each.annotation)


@cache
def list_sinks() -> tuple[frozenset[str], frozenset[str]]:
    """Names of functions, and "module.Class" of classes, that take an event's reason."""
    functions, classes = set(), set()
    for path, tree in parse_all():
        module = ".".join(("vk_provider", *path.relative_to(PACKAGE).with_suffix("").parts))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and takes_reason(node):
                functions.add(node.name.lstrip("_"))
            elif isinstance(node, ast.ClassDef):
                fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
                makers = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
                if any("EventReason" in ast.unparse(each.annotation) for each in fields) or any(
                    takes_reason(each) for each in makers
                ):
                    classes.add(f"{module}.{node.name}")
    return frozenset(functions - {"init__"}), frozenset(classes)


def list_calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """All calls of sinks, with the name of the sink."""
    functions, classes = list_sinks()
    for path, tree in parse_all():
        module = ".".join(("vk_provider", *path.relative_to(PACKAGE).with_suffix("").parts))
        known = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr.lstrip("_") in functions:
                yield path, node.func.attr.lstrip("_"), node
            elif isinstance(node.func, ast.Name):
                name = node.func.id
                if known.get(name, f"{module}.{name}") in classes or name in functions:
                    yield path, name, node


def list_uses() -> Iterator[Use]:
    for path, sink, call in list_calls():
        literals = [each.value for each in call.args if isinstance(each, ast.Constant)]
        kind = next((each for each in literals if each in TYPES), TYPE_OF_CALL.get(sink, ""))
        process = "agent" if any(path.is_relative_to(PACKAGE / each) for each in AGENTS) else "provider"
        for argument in call.args:
            for node in ast.walk(argument):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "eventreasons":
                    yield Use(node.attr, kind, process)


def test_no_call_has_a_reason_of_its_own() -> None:
    calls = list(list_calls())
    assert len(calls) > 60
    own = [
        f"{path.relative_to(PACKAGE)}:{call.lineno} {node.value}"
        for path, _, call in calls
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if REASON_LIKE.fullmatch(node.value) and node.value not in TYPES
    ]
    assert own == [], "reasons stand in vk_provider.eventreasons, with a sentence each"


def test_only_what_an_agent_has_sent_becomes_a_reason_by_conversion() -> None:
    converting = {
        str(path.relative_to(PACKAGE))
        for path, tree in parse_all()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "EventReason"
    }
    assert converting == CONVERTING


def test_each_reason_is_listed_once_and_used() -> None:
    reasons = [event.reason for event in list_events()]
    assert len(reasons) == len(set(reasons)) > 50
    text = "\n".join(path.read_text() for path, _ in parse_all())
    assert [event.name for event in list_events() if not re.search(rf"eventreasons\.{event.name}\b", text)] == []


@pytest.mark.parametrize("event", list_events(), ids=lambda event: event.name)
def test_a_reasons_sentence_names_its_types_and_who_says_it(event: Event) -> None:
    types, processes = USES[event.name]
    assert types in (frozenset(), event.types)
    assert processes <= event.processes


def collect_uses() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Constant -> the types and processes that calls show; empty where it goes another way to them."""
    types: dict[str, set[str]] = defaultdict(set)
    processes: dict[str, set[str]] = defaultdict(set)
    for use in list_uses():
        types[use.name] |= {use.type} - {""}
        processes[use.name].add(use.process)
    return {each.name: (frozenset(types[each.name]), frozenset(processes[each.name])) for each in list_events()}


USES = collect_uses()
