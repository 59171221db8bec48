"""Questions as people put them, and reports as they read them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.unit.ledger.model import BEGAN, Cloud, Process, owner
from vk_provider.ledger.question import CostQuestionError, merge, parse_question
from vk_provider.ledger.report import render_cost

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - 7 * 86400),
        ("90m", NOW - 5400),
        ("1.5h", NOW - 5400),
        ("2026-01-02", 1767312000.0),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("1799999999.5", NOW - 0.5),
    ],
)
def test_times_are_ages_dates_or_moments(text: str, expected: float) -> None:
    assert parse_question({"since": text}, NOW).since == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"since": "yesterday"}, "is no time"),
        ({"since": "1h", "until": "2h"}, "is not before"),
        ({"by": "colour"}, "is none of namespace"),
        ({"by": "label:"}, "is none of namespace"),
        ({"by": 'label:a"b'}, "is none of namespace"),
        ({"by": "zone,zone"}, "different keys"),
        ({"by": "a,b,c,d,e"}, "up to 4"),
        ({"since": "999999999999999999999999"}, "is no time"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(given: dict[str, str], says: str) -> None:
    with pytest.raises(CostQuestionError, match=says):
        parse_question(given, NOW)


@pytest.fixture
def process() -> Process:
    cloud = Cloud()
    made = Process(cloud, ":memory:")
    for number, (kind, namespace, app) in enumerate(
        [("large", "shop", "web"), ("small", "shop", "cart"), ("small", "lab", "=cmd\x1b[2J")]
    ):
        made.meter.see(cloud.launch(kind, namespace))
        labels = {"app.kubernetes.io/name": app}
        made.meter.assign(f"i-{number}", owner(namespace, f"p{number}", **labels))
    cloud.now += 7200
    return made


def test_the_dearest_come_first_and_a_span_is_cut_to_the_question(process: Process) -> None:
    report = process.cost("namespace")
    assert [(row["key"], round(row["usd"], 6)) for row in report["rows"]] == [(["shop"], 4.5), (["lab"], 0.5)]
    assert report["total"]["usd"] == pytest.approx(5.0) and report["total"]["instances"] == 3
    half = process.cost("namespace", "1h")
    assert half["total"]["usd"] == pytest.approx(2.5)
    by_label = process.cost("label:app.kubernetes.io/name")
    assert {row["key"][0] for row in by_label["rows"]} == {"web", "cart", "=cmd\x1b[2J"}
    process.store.close()


def test_a_table_is_aligned_and_moves_no_cursor(process: Process) -> None:
    text = render_cost(process.cost("label:app.kubernetes.io/name,type"), "table")
    head, *rows = text.split("\n\n")[1].splitlines()
    assert head.split() == ["LABEL:APP.KUBERNETES.IO/NAME", "TYPE", "INSTANCES", "HOURS", "USD"]
    assert rows[0].split() == ["web", "large", "1", "2.00", "4.0000"]
    assert rows[-1].split()[0] == "total"
    assert len({len(row) for row in rows}) == 1 and "\x1b" not in text
    process.store.close()


def test_columns_in_which_there_is_nothing_are_in_the_wide_table_alone(process: Process) -> None:
    report = process.cost("type")
    head, *rows = render_cost(report, "wide").split("\n\n")[1].splitlines()
    assert head.split("  ")[-3:] == ["DISK USD", "EST. USD", "UNPRICED H"]
    assert rows[-1].split()[-3:] == ["0.0000", "0.0000", "0.00"]
    for row in (report["rows"][0], report["total"]):
        row["diskUsd"] = 0.125
    head, *rows = render_cost(report, "table").split("\n\n")[1].splitlines()
    assert head.endswith("DISK USD") and rows[0].endswith("0.1250") and max(map(len, rows)) <= 80
    process.store.close()


def test_csv_begins_no_formula_and_json_is_the_report(process: Process) -> None:
    report = process.cost("label:app.kubernetes.io/name")
    rows = list(csv.reader(io.StringIO(render_cost(report, "csv"))))
    assert rows[0][:2] == ["label:app.kubernetes.io/name", "instances"]
    assert any(row[0].startswith("'=cmd") for row in rows[1:]) and len(rows) == 4
    assert json.loads(render_cost(report, "json")) == report
    process.store.close()


def test_answers_of_several_providers_are_one(process: Process) -> None:
    report = process.cost("namespace")
    both = merge([report, report])
    assert both["total"]["usd"] == pytest.approx(10.0) and both["rows"][0]["usd"] == pytest.approx(9.0)
    assert [row["key"] for row in both["rows"]] == [["shop"], ["lab"]]
    assert BEGAN == NOW
    process.store.close()
