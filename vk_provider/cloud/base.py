"""The cloud Protocol: a few calls with the semantics of EC2, each for many instances.

Calls are scarce, instances are not: a launch brings a group of equal instances in one call, one listing shows all, a
termination names many. Who calls is `instances`, and nobody else.

Eventual consistency: an instance that `launch` returned may be missing from listings for a while, and a listing may
show what was true a moment ago. One answer that lacks an instance is no fact.

Outcomes of a call, by the class of the error (vk_provider.errors; cloud.codes says which code of EC2 is which):

    an answer             what it says is so; what it says has failed was not done
    CloudThrottledError   nothing was done; the verb's queue waits
    CloudRequestError     nothing was done, and the same call will never succeed
    another CloudError with effect_unknown, or no answer at all
                          anything may have been done: look it up by token or tag, then repeat the same call
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from vk_provider.cloud.volumes import NO_RATES, VolumeRates
from vk_provider.errors import CloudError, CloudRequestError

TAG_OWNER = "vk-provider/owner"
"""Cluster and node set that an instance belongs to; listings filter by it."""
TAG_NODE = "vk-provider/node"
TAG_POD_UID = "vk-provider/pod-uid"
TAG_POD_NAMESPACE = "vk-provider/pod-namespace"
TAG_POD_NAME = "vk-provider/pod-name"
TAG_ATTEMPT = "vk-provider/attempt"
TAG_LAUNCH = "vk-provider/launch"
"""ID of the launch of the instance, from which its boot secret is derived (agentclient.bootsecret)."""
TAG_STEADY_CPU = "vk-provider/steady-cpu"
"""Millicores that the price of an instance is computed for, where its type may be a burstable one: see
Offering.compute_price."""
TAG_GROUP = "vk-provider/group"
"""Digest of what the pods of one launch have in common: an instance fits any pod with the same digest."""
TAG_POOL = "vk-provider/pool"
"""Pool that an instance was launched for. It has no TAG_POD_NAMESPACE before it has had a pod."""
TAG_DISKS = "vk-provider/disks"
"""Sizes of the network disks that an instance was launched with, see cloud.disks."""
TAG_FAMILIES = "vk-provider/families"
"""IP families of an instance that has another than IPv4, such as "ipv4+ipv6"."""
TAG_IMAGE_STORE = "vk-provider/image-store"
"""Handle of the prepared store that an instance of a pool was launched with; without it there was none."""
TAG_IMAGE_SET = "vk-provider/image-set"
"""Key of an image set, on what makes or holds its prepared store. An instance with it has no pod, and is none of the
instances of a listing: see InstancePage.builders."""
TAG_LABEL_PREFIX = "pod/"
"""Pod labels are tags under this prefix, never bare: who writes pods chooses them, and permissions may look at tags."""
TAG_NAME = "Name"


class InstanceState(StrEnum):
    """EC2's instance state names.

    In `stopping` and `shutting-down` processes may still run: the pod must not be replaced yet. In `stopped` (a pod may
    run `poweroff`) nothing runs, but the disk costs money until the instance is terminated. One that nobody has may be
    stopped by us, and started for a pod later (instances.standby).
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
class MachineTraits:
    """What an instance type has beside CPU and memory; the same object for all its offerings. 0 and "" say that it has
    none, or that the cloud does not tell.

    os_memory_bytes:    what its operating system finds, less than a virtual machine's nominal memory; 0: all of it
    gpu_name, gpu_memory_bytes: of each GPU
    local_disk_bytes:   of the disks within the machine, all together; they are empty with each launch
    local_disks:        how many these are
    store_bytes:        what they hold of images and of what pods keep on disk, instead of the root disk; 0: nothing
    root_price_per_gib: USD an hour for each GiB of the root disk, the same for all offerings of a cloud
    volume_rates:       what network disks cost beyond their size, the same for all offerings of a cloud
    baseline_cpu_milli: what a burstable type may use for ever; 0: all of its CPU
    burst_price_per_cpu: USD an hour for each CPU in use above it
    is_current:         whether the cloud recommends it; false for previous generations
    is_metal:           no virtual machine: takes many minutes to boot
    interfaces, addresses_per_interface: network interfaces, and private IPv4 addresses of each
    volumes, volume_bytes_per_s: network disks that can be attached, and the most that they carry together
    """

    os_memory_bytes: int = 0
    gpu_name: str = ""
    gpu_memory_bytes: int = 0
    local_disk_bytes: int = 0
    baseline_cpu_milli: int = 0
    burst_price_per_cpu: float = 0.0
    is_current: bool = True
    is_metal: bool = False
    interfaces: int = 0
    addresses_per_interface: int = 0
    volumes: int = 0
    volume_bytes_per_s: int = 0
    local_disks: int = 0
    store_bytes: int = 0
    root_price_per_gib: float = 0.0
    volume_rates: VolumeRates = NO_RATES


PLAIN = MachineTraits()


@dataclass(frozen=True, slots=True)
class Offering:
    """One purchasable combination. Prices in USD per hour, memory in bytes, cpu in millicores.

    subnets: where in the zone it can be launched, as the option `subnet` names them; empty where there is no choice
    """

    instance_type: str
    zone: str
    capacity_type: str
    architecture: str
    cpu_milli: int
    memory_bytes: int
    price_per_hour: float
    gpus: int = 0
    traits: MachineTraits = PLAIN
    subnets: tuple[str, ...] = ()

    @property
    def usable_memory_bytes(self) -> int:
        """What its operating system has."""
        return self.traits.os_memory_bytes or self.memory_bytes

    def compute_price(self, cpu_milli: int) -> float:
        """USD an hour while so much CPU is in use all the time: a burstable type costs more above its baseline."""
        traits = self.traits
        if not traits.burst_price_per_cpu:
            return self.price_per_hour
        above = min(cpu_milli, self.cpu_milli) - traits.baseline_cpu_milli
        return self.price_per_hour + max(0, above) / 1000 * traits.burst_price_per_cpu


OfferingKey = tuple[str, str, str]
"""(instance type, zone, capacity type)."""


def offering_key(offering: Offering) -> OfferingKey:
    return offering.instance_type, offering.zone, offering.capacity_type


@dataclass(frozen=True, slots=True)
class InstanceRuntime:
    """The container runtime of new instances, the same for all offerings.

    name, version: as a Node's containerRuntimeVersion has them, such as "containerd" and "2.4.2"
    handlers:      names of its runtime handlers, "" the default one; empty when it does not report their features
    The features are what pods may request; they are the same for all handlers.
    no_gpus:       why containers get no GPUs (nvidia.com/gpu), and what can be done; "" where they do
    images:        machine images that new instances start from, where the settings only name what names them
    """

    name: str
    version: str
    handlers: tuple[str, ...] = ()
    image_volumes: bool = False
    recursive_read_only_mounts: bool = False
    supplemental_groups_policy: bool = False
    images: tuple[str, ...] = ()
    no_gpus: str = "the instances of this cloud give containers none"


@dataclass(frozen=True, slots=True)
class LocalStore:
    """Images and what pods keep on disk may be on the disks within the machine instead of the root disk.

    least_bytes:     an offering whose MachineTraits.store_bytes are as many has all of it there
    root_disk_bytes: of those offerings' root disks
    """

    least_bytes: int
    root_disk_bytes: int

    def holds(self, offering: Offering) -> bool:
        return offering.traits.store_bytes >= self.least_bytes


def root_disk_of(offering: Offering, disk_bytes: int, store: LocalStore | None) -> int:
    """Bytes of the root disk of an instance: disk_bytes, unless its own disks are used instead."""
    return store.root_disk_bytes if store is not None and store.holds(offering) else disk_bytes


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A group of equal instances. Frozen until its outcome is known: a repetition is the same object.

    client_token: idempotency token (<= 64 ASCII chars): however often it is used, no more than `count` instances come
                  of it, even after a crash between the call and its answer. With other parameters a used token is
                  refused (CloudRequestError, EC2's IdempotentParameterMismatch), see cloud.parameters. image_store
                  and TAG_GROUP are none of them: the instances of the first call, with its store, are the answer
    offerings:    ranked, the best first, at least one; each instance is of the first one that has capacity
    tags:         of all instances, complete; keys and values obey EC2's rules (see cloud.tags)
    user_data:    text for the instances, see wire.bootdata
    count:        how many, from 1 to Cloud.group_limit
    disk_bytes:   size of each instance's root disk
    local_store:  where the disks within the machine may be used instead, else None
    shared_host_paths: directories that an instance shares with all instances of the same TAG_OWNER and TAG_NODE that
                  name the path, see Cloud.shares_host_paths
    image_store:  handle of the prepared store that the instances start from, "" for none (cloud.imagestores). With a
                  handle that is unknown by now they start without: their agents then pull
    options:      what is asked of this cloud alone, by its own names; a cloud refuses those it does not know
                  (CloudRequestError)
    """

    client_token: str
    offerings: tuple[Offering, ...]
    tags: Mapping[str, str]
    user_data: str
    count: int = 1
    disk_bytes: int = 20 * 2**30
    shared_host_paths: tuple[str, ...] = ()
    image_store: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    local_store: LocalStore | None = None

    def root_disk_of(self, offering: Offering) -> int:
        """Bytes of the root disk of an instance of this offering."""
        return root_disk_of(offering, self.disk_bytes, self.local_store)


def check_options(request: LaunchRequest, known: Collection[str] = ()) -> None:
    """Raise CloudRequestError for an option that the cloud does not know."""
    if unknown := sorted(set(request.options) - set(known)):
        raise CloudRequestError(f"UnknownParameter: this cloud has no option {unknown[0]}")


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as the cloud describes it. Addresses are "" until known; launch_time in Unix seconds, of its launch,
    or of its last start after a stop.

    primary_ip, pod_ip: IPv4, which every instance has: the agent's and the hostNetwork pods', and the pod's
    primary_ipv6, pod_ipv6: "" for an instance without IPv6
    ended_at: Unix seconds when it stopped to run, for one that does not run any more (EC2's StateTransitionReason); 0.0
              where the cloud does not say it
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
    ended_at: float = 0.0

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


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """Why an offering brought fewer instances than were asked of it: CapacityError, CloudQuotaError, CloudRequestError
    (not offered there), or another CloudError for an instance that could not be made."""

    offering: Offering
    error: CloudError


@dataclass(frozen=True, slots=True)
class LaunchAnswer:
    """instances: from none to LaunchRequest.count. failures: of the offerings that were tried, in that order; at least
    one when there are fewer instances than were asked for. What is missing is asked for with another token."""

    instances: tuple[Instance, ...]
    failures: tuple[LaunchFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class InstancePage:
    """One page of a listing. next_page: for the next call; "" on the last page. builders: what makes prepared stores
    (TAG_IMAGE_SET): no instance for a pod, but paid for."""

    instances: tuple[Instance, ...]
    next_page: str = ""
    builders: tuple[Instance, ...] = ()


class NoticeKind(StrEnum):
    """STATE: the instance is in another state. INTERRUPTION: the cloud will take it back in a moment, or at a time that
    it names. REBALANCE: it is likelier than others to be taken back soon."""

    STATE = "state"
    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"


@dataclass(frozen=True, slots=True)
class Notice:
    """What the cloud says by itself about an instance, of any owner. state: None when the notice does not say it.
    at: Unix seconds of an interruption; None where the notice does not say it."""

    kind: NoticeKind
    instance_id: str
    message: str
    state: InstanceState | None = None
    at: float | None = None


TerminateResult = CloudError | None
"""Result of one termination of a batch: None when it was accepted, or the error."""
StateResult = CloudError | None
"""Result of one stop or start of a batch: as of a termination."""


class Cloud(Protocol):
    """A backend. Every call may raise a CloudError for all that it was asked: see the outcomes above.

    shares_host_paths: whether instances can share directories; a cloud that cannot refuses a request that has some
                       (CloudRequestError). They are bounded in size, hold neither devices nor set-user-ID programs, and
                       last until the Node is taken away
    group_limit:       how many instances one launch call may ask for
    listing_lag_s:     for how long a new instance may be missing from listings; 0.0 where they are always complete
    """

    name: str
    shares_host_paths: bool
    group_limit: int
    listing_lag_s: float

    async def start(self) -> None:
        """Prepare (network, clients). Raises BadStartError when the machine or the account does not allow it."""

    async def close(self) -> None:
        """Release clients and tasks. Instances keep running."""

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        """Launch a group; the answer may bring only a part of it. Idempotent by client_token: a repetition returns the
        instances that the first call made, terminated ones included. Addresses are usually known in the answer; else a
        later listing has them. After a cancelled call the outcome is unknown.

        Raises CloudRequestError for a request that is wrong whatever the offering (tags, user data, a used token)."""

    async def list_page(self, page: str = "") -> InstancePage:
        """A page of all instances whose TAG_OWNER is ours, "" for the first, including terminated ones as long as the
        cloud lists them. See cloud.listing for all pages."""

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        """The named instances; unknown ones are missing from the answer (not an error)."""

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        """Terminate a batch; one result per ID, in order: one that cannot be terminated does not affect the others.
        Idempotent; unknown or terminated instances are no error. Accepted is not ended: the instance is
        `shutting-down` first, and what runs on it may run on for a while."""

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        """Stop a batch, on a cloud with CloudAbility.stops; one result per ID, in order. Accepted is not stopped: the
        instance is `stopping` first. It keeps its disk and its addresses, and is not paid for but for the disk.
        Idempotent. CloudRequestError for one that cannot be stopped: a spot instance, or one that has ended."""

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        """Start stopped instances again: they boot from their disks, and are `pending` with a later launch_time. One
        result per ID, in order; None for one that runs already. CapacityError and CloudQuotaError: it stays stopped.
        CloudRequestError: it is not stopped, or will never start."""

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Add tags to instances, or replace those of the same keys. All instances get all tags. Nothing waits for it;
        unknown or terminated instances may be an error (CloudRequestError) or none."""

    def notices(self) -> AsyncIterator[Notice]:
        """What the cloud says by itself, from now on. Some may be lost, late or repeated: a listing says the same. It
        ends at once for a cloud without notices, and may raise CloudError; it is then asked for again later."""

    async def describe_offerings(self) -> list[Offering]:
        """The offerings in the backend's zones, cheapest first. Asked for again after CloudAbility.offerings_ttl_s."""

    async def describe_runtime(self) -> InstanceRuntime:
        """The container runtime of new instances. It depends on the machine image only, so it is known before the first
        launch and does not change from `start` to `close`."""
