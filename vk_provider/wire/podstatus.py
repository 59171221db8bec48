"""PodStatus as an agent may send it (k8s.io/api/core/v1): the fields that a kubelet writes.

Other fields are dropped when a message is decoded. Lists are bounded; see `wire.values`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Required, TypedDict

from msgspec import Meta

from vk_provider.wire.values import (
    Address,
    ContainerName,
    Count32,
    Counter,
    ExitCode,
    Name,
    Quantity,
    Reason,
    Reference,
    ResourceName,
    Text,
    Timestamp,
    UserId,
)

Quantities = Annotated[dict[ResourceName, Quantity], Meta(max_length=64)]


class ClaimReference(TypedDict, total=False):
    name: Required[Name]
    request: Name


class ResourceRequirements(TypedDict, total=False):
    requests: Quantities | None
    limits: Quantities | None
    claims: Annotated[list[ClaimReference], Meta(max_length=64)] | None


class Waiting(TypedDict, total=False):
    reason: Reason | None
    message: Text | None


class Running(TypedDict, total=False):
    startedAt: Timestamp | None


class Terminated(TypedDict, total=False):
    exitCode: Required[ExitCode]
    signal: ExitCode | None
    reason: Reason | None
    message: Text | None
    startedAt: Timestamp | None
    finishedAt: Timestamp | None
    containerID: Name | None


class ContainerState(TypedDict, total=False):
    waiting: Waiting | None
    running: Running | None
    terminated: Terminated | None


class VolumeMountStatus(TypedDict, total=False):
    name: Required[Name]
    mountPath: Required[Reference]
    readOnly: bool
    recursiveReadOnly: Literal["Enabled", "Disabled", "IfPossible"] | None
    volumeStatus: dict[Name, dict[Name, Reference]] | None


class LinuxUser(TypedDict, total=False):
    uid: Required[UserId]
    gid: Required[UserId]
    supplementalGroups: Annotated[list[UserId], Meta(max_length=4096)] | None


class ContainerUser(TypedDict, total=False):
    linux: LinuxUser | None


class ContainerStatus(TypedDict, total=False):
    name: Required[ContainerName]
    state: ContainerState | None
    lastState: ContainerState | None
    ready: bool
    restartCount: Count32
    image: Reference
    imageID: Reference
    containerID: Name | None
    started: bool | None
    allocatedResources: Quantities | None
    resources: ResourceRequirements | None
    volumeMounts: Annotated[list[VolumeMountStatus], Meta(max_length=1024)] | None
    user: ContainerUser | None
    stopSignal: Name | None


class Condition(TypedDict, total=False):
    type: Required[Name]
    status: Required[Literal["True", "False", "Unknown"]]
    observedGeneration: Counter | None
    lastProbeTime: Timestamp | None
    lastTransitionTime: Timestamp | None
    reason: Reason | None
    message: Text | None


class IpEntry(TypedDict):
    ip: Address


Conditions = Annotated[list[Condition], Meta(max_length=32)]
ContainerStatuses = Annotated[list[ContainerStatus], Meta(max_length=1024)]
Addresses = Annotated[list[IpEntry], Meta(max_length=4)]
Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


class PodStatus(TypedDict, total=False):
    observedGeneration: Counter | None
    phase: Required[Phase]
    conditions: Conditions | None
    message: Text | None
    reason: Reason | None
    hostIP: Address | None
    hostIPs: Addresses | None
    podIP: Address | None
    podIPs: Addresses | None
    startTime: Timestamp | None
    qosClass: Literal["Guaranteed", "Burstable", "BestEffort"] | None
    initContainerStatuses: ContainerStatuses | None
    containerStatuses: ContainerStatuses | None
    ephemeralContainerStatuses: ContainerStatuses | None
    resize: Name | None
    resources: ResourceRequirements | None
    allocatedResources: Quantities | None
