"""Builds the preparer, or what stands for it where images are not kept ready."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.imagesets.sets import Limits
from vk_provider.instances.poolstores import NoPoolImages, PoolImages
from vk_provider.jsontypes import Json
from vk_provider.pods.images import NoImages, PodImages
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.contents import ImageContents
from vk_provider.preparing.credentials import PullSecrets
from vk_provider.preparing.firsttime import FirstTimeRules
from vk_provider.preparing.leftover import LeftStores
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.named import NamedArchitectures
from vk_provider.preparing.preparer import ImagePreparer, SecretReader
from vk_provider.preparing.upkeep import PodSide
from vk_provider.registry.client import RegistryClient
from vk_provider.settings import ImageSettings

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's name of a machine to the image specification's."""


@dataclass(frozen=True, slots=True)
class CloudSide:
    """stores: None where no images are prepared; left: then, where there may be some of earlier ones. offered: the
    architectures of its instances now."""

    stores: ImageStores | None
    left: ImageStores | None
    offered: Callable[[], Collection[str]]


class Preparing:
    """images: for the pods; pool_images: for pools; authority: who may have which image; contents: its blobs. `start`
    and `close` are those of whatever stands behind it."""

    def __init__(
        self,
        cloud: CloudSide,
        settings: ImageSettings,
        client: RegistryClient,
        secrets: SecretReader,
        registry: CollectorRegistry,
        pods: PodSide,
    ) -> None:
        stores = cloud.stores
        self.authority = PullAuthority(client)
        self.contents = ImageContents(self.authority)
        self.images: PodImages = NoImages()
        self.pool_images: PoolImages = NoPoolImages()
        self._client = client
        self._preparer: ImagePreparer | None = None
        self._left: LeftStores | None = None
        self._named, self._architectures = settings.named, NamedArchitectures(client, cloud.offered)
        if stores is not None:
            limits = Limits(settings.max_bytes, settings.max_age_s)
            # Half of the processors pull: the others are for what runs already, and for the preparation.
            pioneers = max(1, (os.cpu_count() or 1) // 2) if stores.shares_machine else 0
            wait_s = settings.wait_s if stores.shares_machine else 0.0
            first_time = FirstTimeRules(pioneers, wait_s, self._find_size)
            self.images = self._preparer = ImagePreparer(
                stores, limits, self.authority, secrets, ImageMetrics(registry), pods.event, pods.records, first_time
            )
            self.pool_images = self._preparer.public
        elif cloud.left is not None:
            self._left = LeftStores(cloud.left, settings.max_age_s, ImageMetrics(registry))

    async def _find_size(self, pod: Json, pull_secrets: PullSecrets) -> int:
        """On the machine that is shared, the architecture is the provider's."""
        return await self.contents.find_size(pod, pull_secrets, ARCHITECTURES.get(platform.machine(), ""))

    def start(self, supervisor: Supervisor) -> None:
        if self._preparer is not None:
            supervisor.start("prepared images", self._preparer.run())
            if self._named:
                supervisor.start("named images", self._preparer.named.run(self._named, self._architectures.find))
        if self._left is not None:
            supervisor.start("prepared images of earlier", self._left.run())

    async def close(self) -> None:
        if self._preparer is not None:
            await self._preparer.close()
        await self.authority.close()
        await self._client.close()
