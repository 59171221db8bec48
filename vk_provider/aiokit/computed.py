"""Metrics of prometheus-client whose samples are computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LabelValues = tuple[str, ...]


class _Computed(Collector):
    """compute() -> label values (LabelValues) in the order of `labels`, and their value. A sample that it returns no
    more is gone."""

    _family: type[GaugeMetricFamily] | type[CounterMetricFamily]

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

    def describe(self) -> Iterator[Metric]:
        """Its name, for the registry: nothing is computed."""
        yield self._family(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        family = self._family(self._name, self._documentation, labels=self._labels)
        for values, value in sorted(self._compute().items()):
            family.add_metric(values, value)
        yield family


class ComputedGauge(_Computed):
    """A Gauge would keep a sample that is gone."""

    _family = GaugeMetricFamily


class ComputedCounter(_Computed):
    """compute() may never return less than before."""

    _family = CounterMetricFamily
