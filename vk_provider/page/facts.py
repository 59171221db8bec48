"""What the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """problem: why it is not Ready, "" when it is. pods: how many it has of `capacity`; 0 where that is not known."""

    name: str
    zone: str
    problem: str
    pods: int
    capacity: int


@dataclass(frozen=True, slots=True)
class OfferingFacts:
    """Instances of one type, zone and capacity type. usd: an hour, of all of them."""

    instance_type: str
    zone: str
    capacity_type: str
    instances: int
    usd: float


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """instances: that run. usd: an hour, of all that is paid for. limit: USD an hour, 0.0 for none."""

    name: str
    instances: int
    usd: float
    limit: float


@dataclass(frozen=True, slots=True)
class LatencyFacts:
    """Of pods since the start of the provider. quantiles: p50, p95, p99 in seconds; count: how many."""

    name: str
    count: int
    quantiles: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class CostHistory:
    """rates: namespace -> mean USD an hour of each step, the oldest first. since: Unix seconds."""

    since: float
    step_s: float
    rates: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class PageFacts:
    """now: Unix seconds. limit: USD an hour of all, 0.0 for none. launches: result -> how many since the start.
    shortages: what is short and for how many seconds more it is avoided. problems: sentences."""

    version: str
    cloud: str
    owner: str
    now: float
    started_at: float
    nodes: Sequence[NodeFacts] = ()
    phases: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)
    offerings: Sequence[OfferingFacts] = ()
    namespaces: Sequence[NamespaceFacts] = ()
    limit: float = 0.0
    held_pods: int = 0
    history: CostHistory | None = None
    launches: Mapping[str, int] = field(default_factory=dict)
    latencies: Sequence[LatencyFacts] = ()
    shortages: Sequence[tuple[str, float]] = ()
    problems: Sequence[str] = ()


def find_quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """By cumulative counts (upper bound, count), the last bound infinite, as Prometheus' histogram_quantile: within a
    bucket values are spread evenly. 0.0 without values; the last finite bound for what is beyond it."""
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return 0.0
    rank, below, lower = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound if bound != float("inf") else lower
    return lower
