"""REFERENCE.md says what the code says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.reference.conditions import list_pod_conditions
from tests.reference.page import PATH, build_page
from tests.reference.settings import describe, list_tables, list_unexplained
from vk_provider.pods.status_patch import OWNED_CONDITIONS

PACKAGE = PATH.parent / "vk_provider"
FAMILIES = ("Counter", "Gauge", "Histogram", "ComputedGauge", "ComputedCounter", "Family")
NO_NAMES = {"vk-provider/", "vk-provider/v1"}
"""A prefix of names, and the apiVersion of the user data."""


@cache
def parse_all() -> tuple[tuple[Path, ast.Module], ...]:
    """All modules that people have written."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.endswith(("_pb2.py", "_grpc.py"))]
    return tuple((path, ast.parse(path.read_text())) for path in paths)


def test_the_page_is_up_to_date() -> None:
    assert PATH.read_text() == build_page(), "REFERENCE.md is out of date; next: make reference"


def test_each_metric_that_the_code_has_is_on_the_page() -> None:
    page, found = build_page(), set()
    for _, tree in parse_all():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in FAMILIES and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    found.add(name.value)
    assert {"vk_pods", "vk_agent_events", "vk_api_requests_total"} <= found
    assert [name for name in sorted(found) if f"| `{name}` |" not in page] == []


def test_each_name_that_is_ours_is_on_the_page() -> None:
    page = build_page()
    names = {
        node.value
        for _, tree in parse_all()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"vk-provider(\.io)?/[\w-]*", node.value)
    }
    assert "vk-provider/owner" in names
    assert [name for name in sorted(names - NO_NAMES) if f"`{name}`" not in page] == []


def test_each_condition_has_a_sentence() -> None:
    assert list_pod_conditions().keys() == OWNED_CONDITIONS


def test_the_tables_of_the_settings_have_the_names_of_the_file() -> None:
    names = [name for name, _ in list_tables()]
    assert {"[cluster]", "[[nodes]]", "[[nodes.taints]]", "[cloud]", "[cloud.local]", "[[registries]]"} <= set(names)
    assert len(names) == len(set(names))


def test_the_sentence_of_a_setting_ends_where_that_of_a_table_begins() -> None:
    limits = dict(list_tables())["[budget]"]
    assert "namespaces:" not in describe(limits) and "how many there may be |" in describe(limits)


def test_each_setting_has_a_sentence() -> None:
    missing = {name: list_unexplained(table) for name, table in list_tables()}
    assert {name: keys for name, keys in missing.items() if keys} == {}
