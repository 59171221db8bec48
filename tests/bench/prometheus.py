"""Reads Prometheus text: counters by label, quantiles of histograms."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one answer of /metrics."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str, *names: str) -> Scrape:
        """Only the families in `names`, all without any."""
        samples = []
        for line in text.splitlines():
            if line.startswith("#") or (names and not line.startswith(names)):
                continue
            if found := _SAMPLE.match(line):
                samples.append(Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])))
        return cls(tuple(samples))

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples called `name` that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def quantile(self, name: str, share: float, before: Scrape | None = None) -> float:
        """Of the observations since `before`: as histogram_quantile, linear within a bucket; nan without any."""
        bounds = self._buckets(name)
        earlier = before._buckets(name) if before else {}
        counts = {bound: count - earlier.get(bound, 0.0) for bound, count in bounds.items()}
        wanted = share * max(counts.values(), default=0.0)
        lower, below = 0.0, 0.0
        for bound in sorted(counts):
            if counts[bound] >= wanted > 0:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - below) / max(counts[bound] - below, 1e-9)
            lower, below = bound, counts[bound]
        return float("nan")

    def _buckets(self, name: str) -> dict[float, float]:
        return {float(s.labels["le"]): s.value for s in self.samples if s.name == f"{name}_bucket"}
