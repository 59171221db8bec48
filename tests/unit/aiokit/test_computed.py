"""Gauges that are computed when they are asked for."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from vk_provider.aiokit.computed import ComputedGauge


def test_a_sample_that_is_not_computed_any_more_is_gone() -> None:
    registry = CollectorRegistry()
    phases = {("Running",): 2.0, ("Pending",): 1.0}
    ComputedGauge("pods", "Pods", ("phase",), lambda: phases, registry)
    head = b"# HELP pods Pods\n# TYPE pods gauge\n"
    assert generate_latest(registry) == head + b'pods{phase="Pending"} 1.0\npods{phase="Running"} 2.0\n'
    phases.clear()
    assert generate_latest(registry) == head


def test_a_second_metric_of_the_name_is_refused_and_nothing_is_computed_for_that() -> None:
    registry = CollectorRegistry()
    ComputedGauge("pods", "Pods", (), lambda: pytest.fail("computed"), registry)
    with pytest.raises(ValueError, match="pods"):
        Gauge("pods", "Pods", registry=registry)
