"""Choosing specs by name."""

import re
from pathlib import Path

from tests.conformance.selection import Selection, focus_of, parse_name_list, selected_names, unknown_names

SMOKE = Path(__file__).parents[2] / "conformance" / "smoke.txt"


def spec(text: str, state: str = "passed", kind: str = "It") -> dict[str, object]:
    return {
        "ContainerHierarchyTexts": ["[sig-node] Pods", ""],
        "LeafNodeText": text,
        "LeafNodeType": kind,
        "State": state,
    }


def test_a_name_list_leaves_out_comments_and_blank_lines() -> None:
    assert parse_name_list("# why\n\n[sig-a] b\n  [sig-c] d  \n") == ("[sig-a] b", "[sig-c] d")


def test_a_dry_run_selects_the_specs_that_would_have_run() -> None:
    report = [
        {"SpecReports": [spec("one"), spec("two", "skipped"), spec("", kind="BeforeSuite")]},
        {"SpecReports": None},
    ]
    assert selected_names(report) == ["[sig-node] Pods one"]


def test_the_focus_of_names_matches_those_names_alone() -> None:
    names = ['[sig-node] is (root,0644) *not* "a|b" +1 {x}^y', "[sig-node] is ready."]
    focus = re.compile(focus_of(names))
    assert all(focus.search(f"Kubernetes e2e suite {name}") for name in names)
    assert not focus.search("Kubernetes e2e suite [sig-node] is ready. [Slow]")
    assert not focus.search("Kubernetes e2e suite [sig-node] is ready!")


def test_only_the_default_selection_is_the_whole() -> None:
    assert Selection().whole
    assert not Selection(focus="Pods").whole
    assert not Selection(names=("[sig-a] b",)).whole


def test_names_no_spec_has_are_found() -> None:
    assert unknown_names(["a", "b"], ["b", "c"]) == ["a"]


def test_the_smoke_list_is_about_thirty_different_specs_twelve_of_them_of_the_network() -> None:
    names = parse_name_list(SMOKE.read_text())
    assert 24 <= len(names) <= 32 and len(set(names)) == len(names)
    assert sum(bool(re.search("sig-network", name)) for name in names) >= 12
    assert all(re.match(r"\[sig-[a-z]+\] .*\[Conformance\]", name) for name in names)
