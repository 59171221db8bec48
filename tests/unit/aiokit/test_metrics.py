"""Prometheus text of counters, gauges and histograms."""

from __future__ import annotations

import pytest

from vk_provider.aiokit.metrics import Registry, format_value


def test_metrics_render_in_order_of_registration() -> None:
    registry = Registry()
    gauge = registry.gauge("depth", "Queue depth")
    counter = registry.counter("calls_total", "Calls", ("verb", "result"))
    gauge.set(3)
    gauge.dec()
    counter.inc("get", "ok")
    counter.inc("get", "ok", by=2.5)
    counter.inc("create", 'bad "x"\n')
    assert registry.render() == (
        "# HELP depth Queue depth\n# TYPE depth gauge\ndepth 2\n"
        "# HELP calls_total Calls\n# TYPE calls_total counter\n"
        'calls_total{verb="create",result="bad \\"x\\"\\n"} 1\n'
        'calls_total{verb="get",result="ok"} 3.5\n'
    )


def test_a_histogram_has_cumulative_buckets() -> None:
    registry = Registry()
    histogram = registry.histogram("seconds", "Time", ("verb",), buckets=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value, "get")
    assert registry.render().splitlines()[2:] == [
        'seconds_bucket{verb="get",le="0.1"} 2',
        'seconds_bucket{verb="get",le="1"} 3',
        'seconds_bucket{verb="get",le="+Inf"} 4',
        'seconds_sum{verb="get"} 7.65',
        'seconds_count{verb="get"} 4',
    ]


def test_a_gauge_can_be_computed_at_scrape_time() -> None:
    registry = Registry()
    phases = {("Running",): 2.0}
    registry.gauge("pods", "Pods", ("phase",), collect=lambda: phases)
    assert 'pods{phase="Running"} 2' in registry.render()
    phases.clear()
    assert "Running" not in registry.render()


def test_mistakes_are_refused() -> None:
    registry = Registry()
    counter = registry.counter("a", "A", ("x",))
    with pytest.raises(ValueError, match="takes labels"):
        counter.inc()
    with pytest.raises(ValueError, match="registered already"):
        registry.gauge("a", "A")


def test_values_keep_their_digits() -> None:
    assert [format_value(value) for value in (1, 1.0, 0.1, 12345678901234567, float("inf"), float("nan"))] == [
        "1",
        "1",
        "0.1",
        "12345678901234567",
        "+Inf",
        "NaN",
    ]
