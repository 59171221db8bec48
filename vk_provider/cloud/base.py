"""The cloud Protocol: a few batch verbs, shaped after EC2 so that every backend behaves like the real one.

Eventual consistency: an instance that `launch` returned may be missing from `list_owned` for a while; callers use a
minimum age before they call anything lost or orphaned. Tags are written by the launch call itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from vk_provider.errors import CloudError

TAG_OWNER = "vk-provider/owner"
"""Cluster and node set that an instance belongs to; `list_owned` filters by it."""
TAG_NODE = "vk-provider/node"
TAG_POD_UID = "vk-provider/pod-uid"
TAG_POD_NAMESPACE = "vk-provider/pod-namespace"
TAG_POD_NAME = "vk-provider/pod-name"
TAG_ATTEMPT = "vk-provider/attempt"
TAG_LAUNCH = "vk-provider/launch"
"""ID of the launch that made the instance; says under which secret its agent proves itself (agentclient.bootsecret)."""
TAG_NAME = "Name"


class InstanceState(StrEnum):
    """EC2's instance state names.

    `stopping` and `shutting-down` still run the last seconds of what runs there: nothing may take its place yet.
    `stopped` (a pod may run `poweroff`) runs nothing, but its disk costs money until somebody terminates it.
    """

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def is_terminated(self) -> bool:
        """Nothing is left: it runs nothing, costs nothing and needs no terminate call."""
        return self is InstanceState.TERMINATED

    @property
    def has_stopped(self) -> bool:
        """Nothing runs there any more."""
        return self in (InstanceState.STOPPED, InstanceState.TERMINATED)

    @property
    def is_terminating(self) -> bool:
        """A terminate call was accepted: it ends (or has ended) without another one and is not paid for."""
        return self in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)


@dataclass(frozen=True, slots=True)
class Offering:
    """One purchasable combination. Prices in USD per hour, memory in bytes, cpu in millicores."""

    instance_type: str
    zone: str
    capacity_type: str
    architecture: str
    cpu_milli: int
    memory_bytes: int
    price_per_hour: float
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class InstanceRuntime:
    """The container runtime of the instances that are launched from now on, whatever their offering.

    name, version: as a Node's containerRuntimeVersion has them, such as "containerd" and "2.4.2"
    handlers:      names of its runtime handlers, "" the default one; empty when it cannot say what they can do
    The rest is what pods may ask for because it can do it; handlers do not differ in it.
    """

    name: str
    version: str
    handlers: tuple[str, ...] = ()
    image_volumes: bool = False
    recursive_read_only_mounts: bool = False
    supplemental_groups_policy: bool = False


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One instance for one pod.

    client_token: idempotency token (<= 64 ASCII chars): the same token never launches a second instance, even after
                  a crash between the call and its answer. It stands for this request: with other parameters it is
                  refused (CloudRequestError, EC2's IdempotentParameterMismatch), see cloud.parameters
    tags:         complete; keys and values obey EC2's rules (see cloud.tags)
    user_data:    text for the instance, see wire.bootdata
    disk_bytes:   size of the instance's root disk
    """

    client_token: str
    offering: Offering
    tags: Mapping[str, str]
    user_data: str
    disk_bytes: int = 20 * 2**30


@dataclass(frozen=True, slots=True)
class Instance:
    """What the cloud says of an instance. Addresses are "" until known; launch_time in Unix seconds."""

    instance_id: str
    state: InstanceState
    instance_type: str
    zone: str
    capacity_type: str
    architecture: str
    primary_ip: str
    pod_ip: str
    launch_time: float
    tags: Mapping[str, str] = field(default_factory=dict)
    state_reason: str = ""


LaunchResult = Instance | CloudError
"""One launch of a batch: the instance, or why this one failed (CapacityError, CloudQuotaError, ...)."""
TerminateResult = CloudError | None
"""One termination of a batch: None when it was accepted, or why this one failed."""


class Cloud(Protocol):
    """A backend. All methods may raise CloudError for the whole call (throttled, unreachable): conclude nothing."""

    name: str

    async def start(self) -> None:
        """Prepare (network, clients). Raises BadStartError with one clear line when this machine/account cannot."""

    async def close(self) -> None:
        """Release clients and tasks. Instances keep running."""

    async def launch(self, requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        """Launch a batch; one result per request, in order. Idempotent by client_token. Addresses are usually known
        in the result; else `describe` tells them later. A caller that gives up waiting (cancels) knows nothing: it
        asks again with the same requests."""

    async def list_owned(self) -> list[Instance]:
        """All instances whose TAG_OWNER is ours, terminated ones included as long as the cloud remembers them."""

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        """The named instances; unknown ones are missing from the answer (not an error)."""

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        """Terminate a batch; one result per ID, in order: one instance that cannot be terminated holds no other.
        Idempotent; unknown or terminated instances are no error."""

    async def describe_offerings(self) -> list[Offering]:
        """What can be bought now, cheapest first within the backend's zones."""

    async def describe_runtime(self) -> InstanceRuntime:
        """What runs the containers on instances launched now. It follows from the machine image, so it is known
        before the first launch and stays the same from `start` to `close`."""
