"""The cloud Protocol: a few batch calls with the semantics of EC2.

Eventual consistency: an instance that `launch` returned may be missing from `list_owned` for a while; callers require a
minimum age before an instance counts as lost or orphaned. Tags are written by the launch call itself.
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
"""ID of the launch of the instance, from which its boot secret is derived (agentclient.bootsecret)."""
TAG_NAME = "Name"


class InstanceState(StrEnum):
    """EC2's instance state names.

    In `stopping` and `shutting-down` processes may still run: the pod must not be replaced yet. In `stopped` (a pod may
    run `poweroff`) nothing runs, but the disk costs money until the instance is terminated.
    """

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def is_terminated(self) -> bool:
        """Nothing runs, nothing is paid for, and no terminate call is needed."""
        return self is InstanceState.TERMINATED

    @property
    def has_stopped(self) -> bool:
        """Nothing runs any more; a stopped instance must still be terminated."""
        return self in (InstanceState.STOPPED, InstanceState.TERMINATED)

    @property
    def is_terminating(self) -> bool:
        """A terminate call was accepted: the instance terminates without another one and is not paid for."""
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
    """The container runtime of new instances, the same for all offerings.

    name, version: as a Node's containerRuntimeVersion has them, such as "containerd" and "2.4.2"
    handlers:      names of its runtime handlers, "" the default one; empty when it does not report their features
    The other fields are features that pods may request; they are the same for all handlers.
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
                  a crash between the call and its answer. With other parameters a used token is
                  refused (CloudRequestError, EC2's IdempotentParameterMismatch), see cloud.parameters
    tags:         complete; keys and values obey EC2's rules (see cloud.tags)
    user_data:    text for the instance, see wire.bootdata
    disk_bytes:   size of the instance's root disk
    shared_host_paths: directories of the instance that it shares with all instances of the same TAG_OWNER and TAG_NODE
                  that name the path, see Cloud.shares_host_paths
    image_store:  handle of the prepared store that the instance starts from, "" for none (cloud.imagestores). Not a
                  parameter that belongs to the token, and with a handle that is unknown by now the instance starts
                  without: its agent then pulls
    """

    client_token: str
    offering: Offering
    tags: Mapping[str, str]
    user_data: str
    disk_bytes: int = 20 * 2**30
    shared_host_paths: tuple[str, ...] = ()
    image_store: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as the cloud describes it. Addresses are "" until known; launch_time in Unix seconds.

    primary_ip, pod_ip: IPv4, which every instance has: the agent's and the hostNetwork pods', and the pod's
    primary_ipv6, pod_ipv6: "" for an instance without IPv6
    """

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
    primary_ipv6: str = ""
    pod_ipv6: str = ""

    @property
    def host_ips(self) -> tuple[str, ...]:
        """The instance's own addresses that are known, IPv4 first."""
        return join_families(self.primary_ip, self.primary_ipv6)

    @property
    def pod_ips(self) -> tuple[str, ...]:
        """The pod's addresses that are known, IPv4 first."""
        return join_families(self.pod_ip, self.pod_ipv6)


def join_families(ipv4: str, ipv6: str) -> tuple[str, ...]:
    """Both addresses, without one that is "". IPv4 is first: it is the primary family of every Node."""
    if not ipv6:
        return (ipv4,) if ipv4 else ()
    return (ipv4, ipv6) if ipv4 else (ipv6,)


LaunchResult = Instance | CloudError
"""Result of one launch of a batch: the instance, or the error (CapacityError, CloudQuotaError, ...)."""
TerminateResult = CloudError | None
"""Result of one termination of a batch: None when it was accepted, or the error."""


class Cloud(Protocol):
    """A backend. A CloudError of a whole call (throttled, unreachable) leaves its effect unknown.

    shares_host_paths: whether instances can share directories; a cloud that cannot refuses a request that has some
                       (CloudRequestError). They are bounded in size, hold neither devices nor set-user-ID programs, and
                       last until the Node is taken away
    """

    name: str
    shares_host_paths: bool

    async def start(self) -> None:
        """Prepare (network, clients). Raises BadStartError when the machine or the account does not allow it."""

    async def close(self) -> None:
        """Release clients and tasks. Instances keep running."""

    async def launch(self, requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        """Launch a batch; one result per request, in order. Idempotent by client_token. Addresses are usually known
        in the result; else `describe` returns them later. After a cancelled call the result is unknown: repeat it
        with the same requests."""

    async def list_owned(self) -> list[Instance]:
        """All instances whose TAG_OWNER is ours, including terminated ones as long as the cloud lists them."""

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        """The named instances; unknown ones are missing from the answer (not an error)."""

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        """Terminate a batch; one result per ID, in order: one that cannot be terminated does not affect the others.
        Idempotent; unknown or terminated instances are no error."""

    async def describe_offerings(self) -> list[Offering]:
        """The offerings in the backend's zones, cheapest first."""

    async def describe_runtime(self) -> InstanceRuntime:
        """The container runtime of new instances. It depends on the machine image only, so it is known before the first
        launch and does not change from `start` to `close`."""
