"""Stats of a pod and its instance as an agent may send them, shaped like /stats/summary
(k8s.io/kubelet/pkg/apis/stats/v1alpha1)."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from msgspec import Meta

from vk_provider.wire.values import (
    ContainerName,
    Counter,
    Figure,
    LabelName,
    MetricName,
    Name,
    Reference,
    Timestamp,
)


class CpuStats(TypedDict, total=False):
    time: Timestamp
    usageNanoCores: Counter | None
    usageCoreNanoSeconds: Counter | None


class MemoryStats(TypedDict, total=False):
    time: Timestamp
    availableBytes: Counter | None
    usageBytes: Counter | None
    workingSetBytes: Counter | None
    rssBytes: Counter | None
    pageFaults: Counter | None
    majorPageFaults: Counter | None


class SwapStats(TypedDict, total=False):
    time: Timestamp
    swapAvailableBytes: Counter | None
    swapUsageBytes: Counter | None


class FsStats(TypedDict, total=False):
    time: Timestamp
    availableBytes: Counter | None
    capacityBytes: Counter | None
    usedBytes: Counter | None
    inodesFree: Counter | None
    inodes: Counter | None
    inodesUsed: Counter | None


class VolumeStats(FsStats, total=False):
    name: Required[Name]


class InterfaceStats(TypedDict, total=False):
    name: Required[Name]
    rxBytes: Counter | None
    rxErrors: Counter | None
    txBytes: Counter | None
    txErrors: Counter | None


class NetworkStats(TypedDict, total=False):
    time: Timestamp
    name: Name
    rxBytes: Counter | None
    rxErrors: Counter | None
    txBytes: Counter | None
    txErrors: Counter | None
    interfaces: Annotated[list[InterfaceStats], Meta(max_length=256)]


class RlimitStats(TypedDict, total=False):
    time: Timestamp
    maxpid: Counter | None
    curproc: Counter | None


class ProcessStats(TypedDict, total=False):
    process_count: Counter | None


class PodReference(TypedDict, total=False):
    name: Name
    namespace: Name
    uid: Name


class ContainerStats(TypedDict, total=False):
    name: Required[ContainerName]
    startTime: Timestamp | None
    cpu: CpuStats | None
    memory: MemoryStats | None
    swap: SwapStats | None
    rootfs: FsStats | None
    logs: FsStats | None


class NodeStats(TypedDict, total=False):
    cpu: CpuStats | None
    memory: MemoryStats | None
    swap: SwapStats | None
    network: NetworkStats | None
    fs: FsStats | None
    rlimit: RlimitStats | None


PodStats = TypedDict(
    "PodStats",
    {
        "podRef": PodReference,
        "startTime": Timestamp | None,
        "containers": Annotated[list[ContainerStats], Meta(max_length=1024)] | None,
        "cpu": CpuStats | None,
        "memory": MemoryStats | None,
        "swap": SwapStats | None,
        "network": NetworkStats | None,
        "volume": Annotated[list[VolumeStats], Meta(max_length=1024)] | None,
        "ephemeral-storage": FsStats | None,
        "process_stats": ProcessStats | None,
    },
    total=False,
)

Sample = tuple[MetricName, Annotated[dict[LabelName, Name], Meta(max_length=16)], Figure]
"""Metric, labels, value."""


class CadvisorContainer(TypedDict, total=False):
    """`container` is "" for the pod sandbox."""

    container: Required[Name]
    id: Reference
    name: Name
    image: Reference
    samples: Annotated[list[Sample], Meta(max_length=512)]


class ProbeCount(TypedDict):
    container: ContainerName
    probeType: Name
    result: Name
    count: Counter
