"""Counters, gauges and histograms with labels, rendered as Prometheus text (exposition format 0.0.4).

Made for one event loop: no locks. Label values are given positionally, in the order of `labels`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

LabelValues = tuple[str, ...]


def format_value(value: float) -> str:
    """Write a sample value; whole numbers without a fraction so that text parsers keep every digit."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e18 else repr(value)


def escape_label(value: str) -> str:
    """Escape a label value."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def format_labels(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """`{a="b",c="d"}` or "" without labels."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    text = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
    return "{" + text + "}" if text else ""


class Metric:
    """One family. Subclasses keep one value per label tuple."""

    kind = "untyped"

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.help_text, self.labels = name, help_text, labels

    def samples(self) -> Iterable[str]:
        raise NotImplementedError

    def _check(self, values: LabelValues) -> LabelValues:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} takes labels {self.labels}, got {values}")
        return values

    def _line(self, suffix: str, values: LabelValues, value: float, extra: tuple[tuple[str, str], ...] = ()) -> str:
        pairs = (*zip(self.labels, values, strict=True), *extra)
        return f"{self.name}{suffix}{format_labels(pairs)} {format_value(value)}"

    def render(self) -> Iterable[str]:
        yield f"# HELP {self.name} {self.help_text}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self.samples()


class Counter(Metric):
    """Only ever grows."""

    kind = "counter"

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(name, help_text, labels)
        self._values: dict[LabelValues, float] = {} if labels else {(): 0.0}

    def inc(self, *label_values: str, by: float = 1.0) -> None:
        values = self._check(label_values)
        self._values[values] = self._values.get(values, 0.0) + by

    def value(self, *label_values: str) -> float:
        return self._values.get(label_values, 0.0)

    def samples(self) -> Iterable[str]:
        for values, value in sorted(self._values.items()):
            yield self._line("", values, value)


class Gauge(Counter):
    """Goes up and down; `collect` may compute all values at scrape time instead."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...] = (),
        collect: Callable[[], Mapping[LabelValues, float]] | None = None,
    ) -> None:
        super().__init__(name, help_text, labels)
        self._collect = collect

    def set(self, value: float, *label_values: str) -> None:
        self._values[self._check(label_values)] = value

    def dec(self, *label_values: str, by: float = 1.0) -> None:
        self.inc(*label_values, by=-by)

    def remove(self, *label_values: str) -> None:
        self._values.pop(label_values, None)

    def samples(self) -> Iterable[str]:
        if self._collect is not None:
            self._values = dict(self._collect())
        return super().samples()


class Histogram(Metric):
    """Observations in cumulative buckets, with sum and count."""

    kind = "histogram"

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = DEFAULT_BUCKETS_S
    ) -> None:
        super().__init__(name, help_text, labels)
        self.buckets = tuple(sorted(buckets))
        self._counts: dict[LabelValues, list[int]] = {}
        self._sums: dict[LabelValues, float] = {}

    def observe(self, value: float, *label_values: str) -> None:
        counts = self._counts.get(label_values)
        if counts is None:
            counts = self._counts[self._check(label_values)] = [0] * (len(self.buckets) + 1)
        counts[bisect_left(self.buckets, value)] += 1
        self._sums[label_values] = self._sums.get(label_values, 0.0) + value

    def samples(self) -> Iterable[str]:
        for values, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip(self.buckets, counts, strict=False):
                total += count
                yield self._line("_bucket", values, total, (("le", format_value(bound)),))
            total += counts[-1]
            yield self._line("_bucket", values, total, (("le", "+Inf"),))
            yield self._line("_sum", values, self._sums[values])
            yield self._line("_count", values, total)


MetricT = TypeVar("MetricT", bound=Metric)


class Registry:
    """The metrics of one process, in order of registration."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def register(self, metric: MetricT) -> MetricT:
        if metric.name in self._metrics:
            raise ValueError(f"metric {metric.name} is registered already")
        self._metrics[metric.name] = metric
        return metric

    def counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return self.register(Counter(name, help_text, labels))

    def gauge(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...] = (),
        collect: Callable[[], Mapping[LabelValues, float]] | None = None,
    ) -> Gauge:
        return self.register(Gauge(name, help_text, labels, collect))

    def histogram(
        self, name: str, help_text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = DEFAULT_BUCKETS_S
    ) -> Histogram:
        return self.register(Histogram(name, help_text, labels, buckets))

    def render(self) -> str:
        """The whole exposition text."""
        lines = [line for metric in self._metrics.values() for line in metric.render()]
        return "\n".join(lines) + "\n" if lines else ""
