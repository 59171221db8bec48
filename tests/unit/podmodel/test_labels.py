"""Label selectors as text, as apimachinery's pkg/labels parses and matches them."""

from __future__ import annotations

import pytest

from vk_provider.podmodel.labels import parse_selector


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("x=y", {"x": "y"}, True),
        ("x==y", {"x": "z"}, False),
        ("x=y,z=w", {"x": "y", "z": "w"}, True),
        ("x=y,z=w", {"x": "y"}, False),
        ("x!=y", {}, True),
        ("x!=y,z!=w", {"x": "z", "z": "w"}, False),
        ("x=", {"x": ""}, True),
        ("x=", {}, False),
        ("notin=in", {"notin": "in"}, True),
        ("x", {"x": "z"}, True),
        ("!x", {"y": "z"}, True),
        ("! x", {"x": ""}, False),
        ("x in (a, b)", {"x": "b"}, True),
        ("x in (a)", {}, False),
        ("x notin (a,b),y", {"y": ""}, True),
        ("x notin (a,b)", {"x": "a"}, False),
        ("x in (,a)", {"x": ""}, True),
        ("x>1", {"x": "2"}, True),
        ("x<1", {"x": "1"}, False),
        ("x > 1", {"x": "many"}, False),
        ("example.com/tier = web", {"example.com/tier": "web"}, True),
    ],
)
def test_a_selector_matches_as_kubectls(selector: str, labels: dict[str, str], matches: bool) -> None:
    assert parse_selector(selector).matches(labels) is matches


@pytest.mark.parametrize(
    "selector",
    ["", "x=y,", "x=a||y=b", "x==a==b", "!x=a", "x<a", "x in a", "x in (a", "in (a)", "a/b/c", "x=not valid!", "x,,y"],
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(ValueError):
        parse_selector(selector)
