"""Metrics of prometheus-client whose samples are computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

LabelValues = tuple[str, ...]


class ComputedGauge(Collector):
    """compute() -> label values (LabelValues) in the order of `labels`, and their value. A sample that it returns no
    more is gone, which a Gauge would keep."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        compute: Callable[[], Mapping[Any, float]],
        registry: CollectorRegistry,
    ) -> None:
        """Raises ValueError: the registry has a metric of that name."""
        self._name, self._documentation, self._labels, self._compute = name, documentation, labels, compute
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Its name, for the registry: nothing is computed."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = self._family()
        for values, value in sorted(self._compute().items()):
            family.add_metric(values, value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


class ComputedCounter(ComputedGauge):
    """The same for a counter: compute() may never return less than before."""

    def collect(self) -> Iterator[CounterMetricFamily]:  # type: ignore[override]
        family = self._family()
        for values, value in sorted(self._compute().items()):
            family.add_metric(values, value)
        yield family

    def describe(self) -> Iterator[CounterMetricFamily]:  # type: ignore[override]
        yield self._family()

    def _family(self) -> CounterMetricFamily:  # type: ignore[override]
        return CounterMetricFamily(self._name, self._documentation, labels=self._labels)
