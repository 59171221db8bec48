"""Metrics of the ledger, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from vk_provider.aiokit.computed import ComputedCounter, ComputedGauge, LabelValues
from vk_provider.ledger.meter import Meter

LABELS = ("namespace", "capacity_type")


class LedgerMetrics:
    """Counters begin with the process: what ran while no provider did is in the first value. They never fall: a
    correction downwards is held back until the count has grown beyond it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._told_usd: dict[LabelValues, float] = {}
        self._told_seconds: dict[LabelValues, float] = {}

    def follow(self, meter: Meter, has_problem: Callable[[], bool], used_bytes: Callable[[], int]) -> None:
        registry = self._registry
        ComputedGauge(
            "vk_instance_cost_usd_per_hour",
            "What running instances, the disks of stopped ones and prepared images cost, in USD an hour; no namespace: "
            "spare ones; (prepared images): their builders and snapshots",
            LABELS,
            meter.rates,
            registry,
        )
        ComputedCounter(
            "vk_instance_cost_usd_total",
            "What instances have cost, in USD; what ran while no provider did is in the first value",
            LABELS,
            lambda: _raise(self._told_usd, {key: each.usd for key, each in meter.counted().items()}),
            registry,
        )
        ComputedCounter(
            "vk_instance_seconds_total",
            "Seconds that instances were pending or running, and what is left of the least time of each run",
            LABELS,
            lambda: _raise(self._told_seconds, {key: each.seconds for key, each in meter.counted().items()}),
            registry,
        )
        Gauge(
            "vk_instances_without_price", "Running instances whose price is not known", registry=registry
        ).set_function(lambda: sum(span.price_nanos is None for span in meter.running()))
        Gauge("vk_ledger_failed", "1 while the ledger cannot be written to its file", registry=registry).set_function(
            has_problem
        )
        Gauge("vk_ledger_bytes", "Bytes of the ledger's file that are in use", registry=registry).set_function(
            used_bytes
        )
        Gauge(
            "vk_ledger_unwritten", "Changes that the ledger's file does not have yet", registry=registry
        ).set_function(lambda: len(meter.changed))


def _raise(told: dict[LabelValues, float], now: dict[tuple[str, str], float]) -> dict[LabelValues, float]:
    for key, value in now.items():
        told[key] = max(told.get(key, 0.0), value)
    return dict(told)
