"""Metrics of prepared images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vk_provider.imagesets.sets import Store

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


class ImageMetrics:
    """By agents' words, and of the stores."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.images = Counter(
            "vk_pod_images_total",
            "Images of pods, as agents tell: pulled, or there already",
            ("how",),
            registry=registry,
        )
        self.pull_seconds = Histogram(
            "vk_image_pull_seconds", "Seconds of agents' pulls", buckets=SECONDS, registry=registry
        )
        self.pulled_bytes = Counter(
            "vk_image_pulled_bytes_total", "Bytes of the images that agents pulled", registry=registry
        )
        self.present_bytes = Counter(
            "vk_image_present_bytes_total",
            "Bytes of the images that were on their instances already",
            registry=registry,
        )
        self.launches = Counter(
            "vk_image_store_launches_total",
            "Launches by whether a prepared store was used: used, none that fits, or not allowed to the pod",
            ("store",),
            registry=registry,
        )
        self.prepared = Counter(
            "vk_image_stores_prepared_total",
            "Image sets by what came of their store: ok, or why there is none: unconfirmed (by the registry), "
            "source-lost, corrupt, refused, full, budget, builder-died, failed",
            ("result",),
            registry=registry,
        )
        self.waited_seconds = Histogram(
            "vk_image_store_wait_seconds",
            "Seconds that pods waited for the store of images that others were pulling for the first time",
            buckets=SECONDS,
            registry=registry,
        )
        self.prepare_seconds = Histogram(
            "vk_image_store_prepare_seconds", "Seconds to prepare a store", buckets=SECONDS, registry=registry
        )

    def follow(self, stores: Callable[[], Iterable[Store]], waiting: Callable[[], int]) -> None:
        """Register gauges that are computed at scrape time."""
        Gauge("vk_image_stores", "Prepared stores", registry=self._registry).set_function(
            lambda: float(sum(1 for _ in stores()))
        )
        Gauge("vk_image_store_bytes", "Bytes of all prepared stores", registry=self._registry).set_function(
            lambda: float(sum(store.size_bytes for store in stores()))
        )
        Gauge("vk_image_sets_waiting", "Image sets that have no store yet", registry=self._registry).set_function(
            lambda: float(waiting())
        )
