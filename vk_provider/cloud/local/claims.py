"""Claims: the record of an instance, found or written before anything else of it is created."""

from __future__ import annotations

import os
import threading
import time

from vk_provider.cloud.base import LaunchRequest, Offering
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.ipv6 import translate
from vk_provider.cloud.local.limit import InstanceLimit
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.errors import CloudQuotaError


class Claims:
    """`claim` may be called in several threads. limit: of the instances that have addresses."""

    def __init__(self, config: LocalCloudConfig, store: InstanceStore) -> None:
        self.limit = InstanceLimit(config.max_instances)
        self._config, self._store = config, store
        self._claiming = threading.Lock()

    def claim(self, instance_id: str, request: LaunchRequest, offering: Offering) -> InstanceRecord:
        """The record of an earlier call with the same token, or a new one with addresses of its own (blocking). Raises
        CloudQuotaError, CloudRequestError, OSError; then nothing is left of it."""
        record = self._store.load(instance_id)
        if record is not None:
            if record.parameters:
                check_same_parameters(request, record.parameters)
            return record
        primary_ip, pod_ip = self._take_addresses(instance_id)
        record = InstanceRecord(
            instance_id=instance_id,
            client_token=request.client_token,
            instance_type=offering.instance_type,
            zone=offering.zone,
            capacity_type=offering.capacity_type,
            architecture=offering.architecture,
            cpu_milli=offering.cpu_milli,
            memory_bytes=offering.memory_bytes,
            addresses=self._describe(primary_ip, pod_ip),
            launch_time=time.time(),
            tags=dict(request.tags),
            parameters=digest_parameters(request),
            shared_host_paths=request.shared_host_paths,
            image_store=request.image_store,
        )
        try:
            self._store.save_user_data(instance_id, request.user_data)
            self._store.save(record)
        except OSError:
            self._store.forget(instance_id)
            self._store.release_addresses(instance_id, primary_ip)
            raise
        return record

    def _take_addresses(self, instance_id: str) -> tuple[str, str]:
        with self._claiming:
            if len(os.listdir(self._config.addresses_dir)) >= self.limit.instances:
                raise CloudQuotaError(
                    f"InstanceLimitExceeded: local cloud {self._config.name} has its limit of "
                    f"{self.limit.instances} instances" + (f" ({self.limit.reason})" if self.limit.reason else "")
                )
            return self._store.allocate_addresses(instance_id)

    def _describe(self, primary_ip: str, pod_ip: str) -> Addresses:
        config = self._config
        if not config.ipv6_subnet:
            return Addresses(primary_ip, pod_ip)
        primary_ipv6, pod_ipv6 = (
            translate(config.subnet, config.ipv6_subnet, address) for address in (primary_ip, pod_ip)
        )
        return Addresses(primary_ip, pod_ip, config.ipv6_subnet, primary_ipv6, pod_ipv6)
