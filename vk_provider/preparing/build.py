"""Builds the preparer, or what stands for it where images are not kept ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.imagesets.sets import Limits
from vk_provider.pods.images import NoImages, PodImages
from vk_provider.pods.record import OnEvent, PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.preparer import ImagePreparer, SecretReader
from vk_provider.registry.client import RegistryClient
from vk_provider.settings import ImageSettings


class Preparing:
    """images: for the pods; `start` and `close` are those of whatever stands behind it."""

    def __init__(
        self,
        stores: ImageStores | None,
        settings: ImageSettings,
        client: RegistryClient,
        secrets: SecretReader,
        registry: CollectorRegistry,
        event: OnEvent,
        records: Callable[[], Iterable[PodRecord]],
    ) -> None:
        self.images: PodImages = NoImages()
        self._client = client
        self._preparer: ImagePreparer | None = None
        if stores is not None:
            limits = Limits(settings.max_bytes, settings.max_age_s)
            self.images = self._preparer = ImagePreparer(
                stores, limits, PullAuthority(client), secrets, ImageMetrics(registry), event, records
            )

    def start(self, supervisor: Supervisor) -> None:
        if self._preparer is not None:
            supervisor.start("prepared images", self._preparer.run())

    async def close(self) -> None:
        if self._preparer is not None:
            await self._preparer.close()
        await self._client.close()
