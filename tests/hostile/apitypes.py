"""What a client of the kubelet API decodes its answers into, as strictly as Go does: one value of a wrong type or a day
that no calendar has makes it refuse the whole document.

k8s.io/kubelet/pkg/apis/stats/v1alpha1 and the part of k8s.io/api/core/v1 that agents report. Nothing here is of the
provider's own schema.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Uint64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""As far as an int64 goes: more is no figure of an instance."""
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[numkMGTPE]|[KMGTPE]i|[eE]([+-]?\d+))?", re.ASCII)


class Time:
    """metav1.Time: what time.Parse takes, and what it writes in UTC has a year of four digits."""

    def __init__(self, text: str) -> None:
        found = _TIME.fullmatch(text)
        if found is None or len(text) > 35:
            raise ValueError(f"no RFC 3339: {text[:60]!r}")
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        moment = datetime.datetime(year, month, day, hour, minute, second)
        zone = found[8]
        if zone != "Z":
            offset = datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
            moment = moment - offset if zone[0] == "+" else moment + offset


class Quantity:
    """resource.Quantity."""

    def __init__(self, text: str) -> None:
        found = _QUANTITY.fullmatch(text)
        if found is None or abs(int(found[2] or 0)) >= 2**31:
            raise ValueError(f"no quantity: {text[:60]!r}")
        Decimal(found[1])


def _hook(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return kind(value)


class _Strict(Struct, forbid_unknown_fields=True, rename="camel"):
    """The provider serves no field that the API has not."""


class Cpu(_Strict):
    time: Time | None = None
    usage_nano_cores: Uint64 | None = None
    usage_core_nano_seconds: Uint64 | None = None


class Memory(_Strict):
    time: Time | None = None
    available_bytes: Uint64 | None = None
    usage_bytes: Uint64 | None = None
    working_set_bytes: Uint64 | None = None
    rss_bytes: Uint64 | None = None
    page_faults: Uint64 | None = None
    major_page_faults: Uint64 | None = None


class Swap(_Strict):
    time: Time | None = None
    swap_available_bytes: Uint64 | None = None
    swap_usage_bytes: Uint64 | None = None


class FileSystem(_Strict):
    time: Time | None = None
    available_bytes: Uint64 | None = None
    capacity_bytes: Uint64 | None = None
    used_bytes: Uint64 | None = None
    inodes_free: Uint64 | None = None
    inodes: Uint64 | None = None
    inodes_used: Uint64 | None = None


class Volume(FileSystem):
    name: str = ""


class Interface(_Strict):
    name: str
    rx_bytes: Uint64 | None = None
    rx_errors: Uint64 | None = None
    tx_bytes: Uint64 | None = None
    tx_errors: Uint64 | None = None


class Network(_Strict):
    time: Time | None = None
    name: str = ""
    rx_bytes: Uint64 | None = None
    rx_errors: Uint64 | None = None
    tx_bytes: Uint64 | None = None
    tx_errors: Uint64 | None = None
    interfaces: list[Interface] | None = None


class Rlimit(_Strict):
    time: Time | None = None
    maxpid: Int64 | None = None
    curproc: Int64 | None = None


class Processes(Struct, forbid_unknown_fields=True):
    process_count: Uint64 | None = None


class Container(_Strict):
    name: str
    start_time: Time | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    swap: Swap | None = None
    rootfs: FileSystem | None = None
    logs: FileSystem | None = None


class PodReference(_Strict):
    name: str
    namespace: str
    uid: str


class PodStats(_Strict):
    pod_ref: PodReference
    start_time: Time | None = None
    containers: list[Container] | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    swap: Swap | None = None
    network: Network | None = None
    volume: list[Volume] | None = None
    ephemeral_storage: FileSystem | None = msgspec.field(default=None, name="ephemeral-storage")
    process_stats: Processes | None = msgspec.field(default=None, name="process_stats")


class Runtime(_Strict):
    image_fs: FileSystem
    container_fs: FileSystem


class NodeStats(_Strict):
    node_name: str
    start_time: Time
    cpu: Cpu
    memory: Memory
    system_containers: list[Container]
    network: Network
    fs: FileSystem
    runtime: Runtime
    rlimit: Rlimit


class Summary(_Strict):
    node: NodeStats
    pods: list[PodStats]


class Running(Struct, rename="camel"):
    started_at: Time | None = None


class Waiting(Struct):
    reason: str | None = None
    message: str | None = None


class Terminated(Struct, rename="camel"):
    exit_code: Int32
    signal: Int32 | None = None
    reason: str | None = None
    message: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None


class ContainerState(Struct):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class Resources(Struct):
    requests: dict[str, Quantity] | None = None
    limits: dict[str, Quantity] | None = None
    claims: list[dict[str, str]] | None = None


class LinuxUser(Struct, rename="camel"):
    uid: Int64
    gid: Int64
    supplemental_groups: list[Int64] | None = None


class ContainerUser(Struct):
    linux: LinuxUser | None = None


class Mount(Struct, rename="camel"):
    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: str | None = None


class ContainerStatus(Struct, rename="camel"):
    name: str
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    ready: bool = False
    restart_count: Int32 = 0
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str | None = msgspec.field(default=None, name="containerID")
    started: bool | None = None
    allocated_resources: dict[str, Quantity] | None = None
    resources: Resources | None = None
    volume_mounts: list[Mount] | None = None
    user: ContainerUser | None = None
    stop_signal: str | None = None


class Condition(Struct, rename="camel"):
    type: str
    status: str
    observed_generation: Int64 | None = None
    last_probe_time: Time | None = None
    last_transition_time: Time | None = None
    reason: str | None = None
    message: str | None = None


class PodStatus(Struct, rename="camel"):
    observed_generation: Int64 | None = None
    phase: str | None = None
    conditions: list[Condition] | None = None
    message: str | None = None
    reason: str | None = None
    start_time: Time | None = None
    qos_class: str | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None
    resize: str | None = None
    resources: Resources | None = None
    allocated_resources: dict[str, Quantity] | None = None


class Pod(Struct):
    """metadata and spec are the API server's."""

    metadata: dict[str, Any]
    spec: dict[str, Any]
    status: PodStatus


class PodList(Struct):
    kind: str
    items: list[Pod]


def check_summary(document: bytes) -> None:
    """/stats/summary. Raises msgspec.ValidationError."""
    msgspec.json.decode(document, type=Summary, dec_hook=_hook)


def check_pods(document: bytes) -> None:
    """A PodList. Raises msgspec.ValidationError."""
    msgspec.json.decode(document, type=PodList, dec_hook=_hook)


def check_status(document: bytes) -> None:
    """A PodStatus. Raises msgspec.ValidationError."""
    msgspec.json.decode(document, type=PodStatus, dec_hook=_hook)
