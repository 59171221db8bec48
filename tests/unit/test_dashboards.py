"""The dashboard and the alert rules speak of metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.reference.metrics import list_pages

DASHBOARDS = Path(__file__).parents[2] / "manifests" / "dashboards"
OF_THE_SCRAPE = {"job", "instance", "le"}
_SELECTED = re.compile(r"\b(vk_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_GROUPED = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """Name of each series of the provider's /metrics -> its labels."""
    rows = dict(list_pages())["Provider: `/metrics`"]
    found = {}
    for name, kind, labels, _ in rows:
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + suffix] = set(filter(None, labels.split(", ")))
    return found


def dashboard() -> Any:
    return json.loads((DASHBOARDS / "grafana.json").read_text())


def rules() -> list[Any]:
    document = yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_each_metric_and_label_exists(title: str, expression: str) -> None:
    series = known()
    used = _SELECTED.findall(expression)
    assert used, "an expression is about our metrics"
    labels: set[str] = set()
    for name, matchers in used:
        assert name in series, f"{title}: there is no {name}"
        labels |= series[name]
        matched = set(_MATCHER.findall(matchers))
        assert matched <= series[name] | OF_THE_SCRAPE, f"{title}: {name} has no {matched - series[name]}"
    for grouped in _GROUPED.findall(expression):
        names = {each.strip() for each in grouped.split(",")}
        assert names <= labels | OF_THE_SCRAPE, f"{title}: nothing has {names - labels}"
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


def test_panels_have_room_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


def test_the_legends_name_labels_that_the_result_has() -> None:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {name.strip() for each in _GROUPED.findall(target["expr"]) for name in each.split(",")}
            assert named <= kept, panel["title"]


def test_each_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["action"].endswith(".")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_a_wrong_name_would_be_found() -> None:
    for expression in ("sum(vk_nothing)", 'vk_pods{colour="red"}', "sum by (colour) (vk_pods)"):
        with pytest.raises(AssertionError):
            test_each_metric_and_label_exists("wrong", expression)


def test_the_pictures_are_small() -> None:
    for name in ("page.png", "page-dark.png"):
        assert 10_000 < (DASHBOARDS / name).stat().st_size < 250_000
