"""SimulatedCloud: the Cloud protocol in memory, with latencies and failures on request."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from vk_provider.cloud.base import (
    TAG_OWNER,
    Instance,
    InstanceRuntime,
    InstanceState,
    LaunchRequest,
    LaunchResult,
    Offering,
    TerminateResult,
)
from vk_provider.cloud.local.catalog import build_offerings, machine_architecture
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.cloud.simulated.settings import SimulatedCloudSettings
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.unavailable import OfferingKey, offering_key
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError, CloudRequestError

_RUNTIME = InstanceRuntime(
    "simulated",
    "1.0.0",
    ("",),
    image_volumes=True,
    recursive_read_only_mounts=True,
    supplemental_groups_policy=True,
)
_FIRST_ADDRESS = int(ipaddress.IPv4Address("100.64.0.16"))
_IPV6_NETWORK = int(ipaddress.IPv6Address("fd00:64::"))


@dataclass(frozen=True, slots=True)
class SimulationConfig(SimulatedCloudSettings):
    """Beside the settings: visible_after_s: how long a new instance is missing from listings (eventual consistency);
    remember_s: how long terminated ones are listed; job_run_s: how long pods of a Job run before they succeed."""

    visible_after_s: float = 0.0
    remember_s: float = 600.0
    max_instances: int = 100_000
    job_run_s: float = 1.0


def configure(settings: SimulatedCloudSettings) -> SimulationConfig:
    """The configuration that the settings describe."""
    return SimulationConfig(**{item.name: getattr(settings, item.name) for item in fields(settings)})


class Failures:
    """Faults, set by tests. `throttled`: how many of the next calls fail as a whole; `protected`: IDs of
    instances that cannot be terminated."""

    def __init__(self) -> None:
        self.throttled = 0
        self.no_capacity: set[OfferingKey] = set()
        self.protected: set[str] = set()

    def check_call(self, name: str) -> None:
        if self.throttled > 0:
            self.throttled -= 1
            raise CloudError(f"RequestLimitExceeded: {name} is throttled")


class SimulatedCloud:
    """See cloud.base.Cloud. Its instances exist as long as the process. `clock`: Unix seconds."""

    name = "simulated"
    shares_host_paths = False

    def __init__(self, config: SimulationConfig, owner: str, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.failures = Failures()
        self._owner = owner
        self._clock = clock
        self._offerings = build_offerings(machine_architecture())
        self._known = frozenset(self._offerings)
        self._instances: dict[str, Instance] = {}
        self._parameters: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._next_address = _FIRST_ADDRESS
        self.on_gone: Callable[[str], None] = lambda instance_id: None

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release."""

    async def launch(self, requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        self.failures.check_call("RunInstances")
        if self.config.launch_latency_s:
            await asyncio.sleep(self.config.launch_latency_s)
        return [self._launch(request) for request in requests]

    def _launch(self, request: LaunchRequest) -> LaunchResult:
        instance_id = "i-" + hashlib.sha256(request.client_token.encode()).hexdigest()[:17]
        known = self._instances.get(instance_id)
        try:
            if known is not None:
                check_same_parameters(request, self._parameters[instance_id])
                return known
            self._check(request)
        except CloudError as error:
            return error
        offering = request.offering
        primary, self._next_address = self._next_address, self._next_address + 2
        instance = Instance(
            instance_id=instance_id,
            state=InstanceState.RUNNING,
            instance_type=offering.instance_type,
            zone=offering.zone,
            capacity_type=offering.capacity_type,
            architecture=offering.architecture,
            primary_ip=str(ipaddress.IPv4Address(primary)),
            pod_ip=str(ipaddress.IPv4Address(primary + 1)),
            launch_time=self._clock(),
            tags=dict(request.tags),
            primary_ipv6=self._ipv6(primary),
            pod_ipv6=self._ipv6(primary + 1),
        )
        self._instances[instance_id] = instance
        self._parameters[instance_id] = digest_parameters(request)
        return instance

    def _ipv6(self, ipv4: int) -> str:
        return str(ipaddress.IPv6Address(_IPV6_NETWORK + ipv4)) if self.config.ipv6 else ""

    def _check(self, request: LaunchRequest) -> None:
        check_tags(request.tags)
        check_user_data(request.user_data)
        if request.shared_host_paths:
            raise CloudRequestError("Unsupported: instances of the simulated cloud share no directories")
        offering = request.offering
        if offering not in self._known:
            raise CloudRequestError(f"Unsupported: {offering.instance_type} is not offered in {offering.zone}")
        if offering_key(offering) in self.failures.no_capacity:
            raise CapacityError(
                f"InsufficientInstanceCapacity: no {offering.instance_type} ({offering.capacity_type}) "
                f"in {offering.zone} now",
                *offering_key(offering),
            )
        if len(self._instances) - len(self._ended) >= self.config.max_instances:
            raise CloudQuotaError(f"InstanceLimitExceeded: at most {self.config.max_instances} instances")

    def is_booted(self, instance_id: str) -> bool:
        """Whether the agent of an instance answers."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.state is not InstanceState.RUNNING:
            return False
        return self._clock() - instance.launch_time >= self.config.boot_latency_s

    async def list_owned(self) -> list[Instance]:
        self.failures.check_call("DescribeInstances")
        self._forget_old()
        visible = self._clock() - self.config.visible_after_s
        return [
            i for i in self._instances.values() if i.launch_time <= visible and i.tags.get(TAG_OWNER) == self._owner
        ]

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        self.failures.check_call("DescribeInstances")
        self._forget_old()
        return [self._instances[instance_id] for instance_id in instance_ids if instance_id in self._instances]

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        self.failures.check_call("TerminateInstances")
        return [self._terminate(instance_id) for instance_id in instance_ids]

    def _terminate(self, instance_id: str) -> TerminateResult:
        if instance_id in self.failures.protected:
            return CloudError(f"OperationNotPermitted: the instance '{instance_id}' may not be terminated")
        self._end(instance_id, "Client.UserInitiatedShutdown: terminated by request")
        return None

    def vanish(self, instance_id: str, reason: str = "Server.SpotInstanceTermination: reclaimed") -> None:
        """The cloud terminates an instance by itself, as a spot interruption does."""
        self._end(instance_id, reason)

    def _end(self, instance_id: str, reason: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.state is InstanceState.TERMINATED:
            return
        self._instances[instance_id] = replace(
            instance,
            state=InstanceState.TERMINATED,
            state_reason=reason,
            primary_ip="",
            pod_ip="",
            primary_ipv6="",
            pod_ipv6="",
        )
        self._ended[instance_id] = self._clock()
        self.on_gone(instance_id)

    def _forget_old(self) -> None:
        limit = self._clock() - self.config.remember_s
        for instance_id in [i for i, ended in self._ended.items() if ended < limit]:
            del self._ended[instance_id]
            del self._instances[instance_id], self._parameters[instance_id]

    async def describe_offerings(self) -> list[Offering]:
        self.failures.check_call("DescribeInstanceTypeOfferings")
        return list(self._offerings)

    async def describe_runtime(self) -> InstanceRuntime:
        """A runtime with all features: nothing is mounted, so no pod is refused."""
        self.failures.check_call("DescribeImages")
        return _RUNTIME
