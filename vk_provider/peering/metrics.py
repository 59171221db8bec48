"""Metrics of blobs that instances fetch, by agents' words as far as they can be true."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class PeerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.bytes = Counter(
            "vk_image_fetched_bytes_total",
            "Bytes of images' parts that instances have fetched: from peers (other instances), or from the registry",
            ("source",),
            registry=registry,
        )
        self.failures = Counter(
            "vk_image_peer_failures_total",
            "Blobs that another instance was named for and did not deliver",
            registry=registry,
        )
        self.proofs = Counter(
            "vk_image_peer_proofs_total",
            "Pods whose right to their images was asked of the registry before peers were named: allowed, or denied",
            ("result",),
            registry=registry,
        )

    def follow(self, size: Callable[[], tuple[int, int, int]]) -> None:
        """Register gauges that are computed at scrape time. size: see swarm.Swarm.size."""
        for place, (name, text) in enumerate(
            (
                ("vk_image_peer_instances", "Instances that can fetch images from each other, or serve them"),
                ("vk_image_peer_blobs", "Blobs that are known, in each zone by itself"),
                (
                    "vk_image_peer_transfers",
                    "Blobs that are being fetched, from peers or with a lease for the registry",
                ),
            )
        ):
            Gauge(name, text, registry=self._registry).set_function(partial(_read, size, place))


def _read(size: Callable[[], tuple[int, int, int]], place: int) -> float:
    return float(size()[place])
