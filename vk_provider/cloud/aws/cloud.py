"""AwsCloud: the Cloud protocol on EC2."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.aws import ipv6, notices, statechange
from vk_provider.cloud.aws.addresses import SecondAddresses
from vk_provider.cloud.aws.catalog.catalog import AwsCatalog, Scope
from vk_provider.cloud.aws.catalog.machines import DiskTerms
from vk_provider.cloud.aws.catalogcalls import CatalogCalls
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.description import Descriptions
from vk_provider.cloud.aws.diskprices import HOURS_A_MONTH, build_rates
from vk_provider.cloud.aws.ecr import EcrCredentials
from vk_provider.cloud.aws.images import Images
from vk_provider.cloud.aws.launching import Launcher, Network
from vk_provider.cloud.aws.operations import CREATE_TAGS
from vk_provider.cloud.aws.podidentity import EksPodIdentity
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.specification import build_tags
from vk_provider.cloud.aws.spothistory import SpotHistory
from vk_provider.cloud.aws.stores.calls import StoreCalls
from vk_provider.cloud.aws.stores.stores import AwsImageStores, Surroundings
from vk_provider.cloud.aws.subnets import Subnets
from vk_provider.cloud.aws.templates import LaunchTemplates
from vk_provider.cloud.base import (
    Instance,
    InstancePage,
    InstanceRuntime,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    Offering,
    StateResult,
    TerminateResult,
)
from vk_provider.cloud.codes import code_of
from vk_provider.cloud.tags import check_tags
from vk_provider.errors import BadStartError, CloudAccessError, CloudError, CloudRequestError
from vk_provider.wire.imagebuild import RegistryHost

log = logging.getLogger(__name__)

GROUP_LIMIT = 500
"""Instances of one call: RunInstances' own limit is the account's, 1,000 in one token bucket."""
START_TRIES = 5
NO_GPUS = (
    "the machine images are not said to have NVIDIA's driver and container toolkit; with such images set "
    "cloud.aws.nvidia_gpus = true"
)


class AwsCloud:
    """See cloud.base.Cloud."""

    name = "aws"
    shares_host_paths = False
    group_limit = GROUP_LIMIT

    def __init__(
        self, settings: AwsCloudSettings, owner: str, registries: Mapping[str, Mapping[str, Any]] = {}
    ) -> None:
        self._settings = settings
        self.listing_lag_s = settings.listing_lag_s
        self._client = AwsClient(settings)
        self._subnets = Subnets(self._client, settings.subnets, ipv6=settings.ipv6)
        self._images = Images(self._client, settings, time.monotonic)
        self._templates = LaunchTemplates(self._client, settings, owner)
        self._addresses = SecondAddresses(self._client, ipv6.ADDRESSES if settings.ipv6 else 0)
        self._descriptions = Descriptions(self._client, owner, self._addresses)
        surroundings = Surroundings(
            self._images, self._subnets, self._descriptions, self.describe_offerings, _read_hosts(registries)
        )
        self._stores = AwsImageStores(StoreCalls(self._client, owner), settings, owner, surroundings)
        network = Network(self._subnets, self._images, self._templates, self._addresses, self._stores)
        self._launcher = Launcher(self._client, settings, network, self._descriptions)
        self._tasks = BackgroundTasks()
        self._catalog: AwsCatalog | None = None

    async def start(self) -> None:
        await self._client.start()
        try:
            await self._check_account()
        except BaseException:
            await self._client.close()
            raise
        settings = self._settings
        root_price = settings.root_volume_price / HOURS_A_MONTH
        disks = DiskTerms(settings.instance_store_policy == "raid0", root_price, build_rates(settings))
        scope = Scope(
            self._client.region,
            lambda: self._subnets.by_zone,
            self._images.architectures,
            settings.instance_types,
            disks,
            ipv6.ADDRESSES if settings.ipv6 else 0,
        )
        self._catalog = AwsCatalog(CatalogCalls(self._client), scope, settings.catalog)
        self._tasks.spawn(self._catalog.run(), "catalog")
        self._tasks.spawn(self._templates.run(), "launch templates")
        self._tasks.spawn(self._addresses.run(), "second addresses")
        if settings.image_stores.enabled:
            self._tasks.spawn(self._stores.run(), "prepared images")

    async def _check_account(self) -> None:
        """What the settings name is there. An account that does not answer is asked a few times."""
        backoff = Backoff(0.5, 10.0)
        for left in reversed(range(START_TRIES)):
            try:
                await self._subnets.start()
                for architecture in self._images.architectures:
                    await self._images.find(architecture)
                return
            except (CloudRequestError, CloudAccessError) as error:
                raise BadStartError(f"cloud.aws: {error}") from error
            except CloudError as error:
                if not left:
                    raise
                log.warning("EC2 does not answer, asked again: %s", error)
                await asyncio.sleep(backoff.next_delay_s())

    @property
    def image_stores(self) -> AwsImageStores:
        """See CloudBackend.image_stores."""
        return self._stores

    @property
    def credentials(self) -> EcrCredentials | None:
        """See CloudBackend.credentials."""
        if not self._settings.ecr_credentials:
            return None
        return EcrCredentials(self._client, self._client.region, self._client.registry_regions)

    @property
    def pod_identity(self) -> EksPodIdentity | None:
        """See CloudBackend.pod_identity."""
        cluster = self._settings.eks_cluster
        return EksPodIdentity(self._client, cluster) if cluster else None

    @property
    def spot_prices(self) -> SpotHistory | None:
        """See CloudBackend.spot_prices."""
        return SpotHistory(CatalogCalls(self._client)) if self._settings.catalog.spot_prices else None

    async def close(self) -> None:
        await self._tasks.close()
        if self._catalog is not None:
            await self._catalog.close()
        await self._client.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await self._launcher.launch(request)

    async def list_page(self, page: str = "") -> InstancePage:
        return await self._descriptions.list_page(page)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._descriptions.describe(instance_ids)

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await statechange.terminate(self._client, instance_ids)

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await statechange.stop(self._client, instance_ids)

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return await statechange.start(self._client, instance_ids)

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        check_tags(tags)
        if not instance_ids or not tags:
            return
        parameters = {"Resources": list(dict.fromkeys(instance_ids)), "Tags": build_tags(tags)}
        try:
            await self._client.call(CREATE_TAGS, parameters)
        except CloudRequestError as error:
            if code_of(error) in statechange.UNKNOWN_ID:  # it may not be known everywhere yet
                raise CloudError(str(error)) from error
            raise

    async def notices(self) -> AsyncIterator[Notice]:
        if self._settings.notice_queue:
            async for notice in notices.follow(self._client, self._settings.notice_queue):
                yield notice

    async def describe_offerings(self) -> list[Offering]:
        assert self._catalog is not None, "not started"
        await self._catalog.refresh()
        return list(self._catalog.offerings())

    async def _find_image_ids(self) -> tuple[str, ...]:
        """What is looked up now: a parameter of Systems Manager has another image from time to time."""
        return tuple([(await self._images.find(name)).image_id for name in self._images.architectures])

    async def describe_runtime(self) -> InstanceRuntime:
        settings = self._settings
        return InstanceRuntime(
            "containerd",
            settings.runtime_version,
            settings.runtime_handlers,
            image_volumes=settings.image_volumes,
            recursive_read_only_mounts=settings.recursive_read_only_mounts,
            supplemental_groups_policy=settings.supplemental_groups_policy,
            images=await self._find_image_ids(),
            no_gpus="" if settings.nvidia_gpus else NO_GPUS,
        )


def _read_hosts(registries: Mapping[str, Mapping[str, Any]]) -> dict[str, RegistryHost]:
    return {
        host: RegistryHost(str(each.get("server") or ""), bool(each.get("plain_http")))
        for host, each in registries.items()
    }
