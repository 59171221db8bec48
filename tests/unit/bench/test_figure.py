"""Figures, histogram quantiles and the table: what the results are read from."""

import json
import math

import pytest

from tests.bench.figure import Figure, median_figure, quantile
from tests.bench.prometheus import Scrape
from tests.bench.report import table

TEXT = """# HELP h seconds
# TYPE h histogram
h_bucket{le="0.01"} 50
h_bucket{le="0.1"} 90
h_bucket{le="+Inf"} 100
h_sum 4
calls_total{verb="patch",code="200"} 7
calls_total{verb="get",code="200"} 3
"""


@pytest.mark.parametrize(
    ("value", "most", "met"), [(2, True, True), (3, True, False), (2, False, True), (1, False, False)]
)
def test_a_goal_is_a_bound_from_above_or_from_below(value: float, most: bool, met: bool) -> None:
    assert Figure("f", value, "s", goal=2, most=most).met is met


def test_a_figure_without_a_goal_is_neither_met_nor_missed() -> None:
    assert Figure("f", 1, "s").met is None
    assert "met" not in json.loads(Figure("f", 1, "s").to_json())


def test_a_median_keeps_its_samples() -> None:
    figure = median_figure("f", [3.0, 1.0, 2.00004], "s")
    assert (figure.value, json.loads(figure.to_json())["samples"]) == (2.00004, [3.0, 1.0, 2.0])


def test_a_quantile_of_a_list_is_one_of_its_values() -> None:
    assert quantile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert quantile([5.0, 1.0, 3.0], 0.99) == 5.0


def test_a_histogram_quantile_is_linear_within_its_bucket() -> None:
    scrape = Scrape.parse(TEXT)
    assert scrape.quantile("h", 0.25) == pytest.approx(0.005)
    assert scrape.quantile("h", 0.7) == pytest.approx(0.055)
    assert scrape.quantile("h", 0.99) == pytest.approx(0.1)


def test_only_observations_since_the_earlier_scrape_count() -> None:
    later = Scrape.parse(TEXT.replace(" 50\n", " 150\n").replace(" 90\n", " 190\n").replace(" 100\n", " 200\n"))
    assert later.quantile("h", 0.99, Scrape.parse(TEXT)) <= 0.01
    assert math.isnan(later.quantile("h", 0.5, later))


def test_counters_add_up_over_the_labels_that_are_not_asked_for() -> None:
    scrape = Scrape.parse(TEXT, "calls_total")
    assert scrape.total("calls_total", code="200") == 10
    assert scrape.total("calls_total", verb="patch") == 7
    assert scrape.total("h_sum") == 0


def test_the_columns_of_the_table_align() -> None:
    lines = table([Figure("a", 1, "s"), Figure("a_longer_name", 12.345, "MB/s", goal=3, note="n")])
    assert len({len(line) for line in lines}) == 1
    assert "| a_longer_name | 12.35" in lines[3] or "| a_longer_name | 12.3" in lines[3]
