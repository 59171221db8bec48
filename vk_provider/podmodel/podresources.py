"""The pod's own cgroup, and what a status says of the pod's resources as a whole. Pure.

Source: ResourceConfigForPod in pkg/kubelet/cm/helpers_linux.go, convertToAPIPodLevelResourcesStatus in
pkg/kubelet/kubelet_pods.go (v1.37), KEP-5419 (InPlacePodLevelResourcesVerticalScaling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.quantity import format_quantity, milli, parse_quantity
from vk_provider.podmodel.resources import (
    CPU_PERIOD_US,
    MIN_CPU_SHARES,
    ResourceKind,
    cpu_quota,
    cpu_shares,
    effective_amounts,
    effective_resources,
    qos_class,
    resource_list,
)
from vk_provider.podmodel.resourceshape import by_resources
from vk_provider.podmodel.spec import init_containers, regular_containers, spec_of

MIN_CPU_LIMIT_MILLI = 10
"""What the least CFS quota of the kernel (1 ms in 100 ms) gives: smaller limits cannot be told from it."""


@dataclass(frozen=True, slots=True)
class ResourceConfig:
    """Limits of a pod's cgroup; None is a limit that is not set. Quota and period are microseconds, memory is bytes."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int = CPU_PERIOD_US
    memory: int | None = None


@by_resources
def build_resource_config(pod: Json) -> ResourceConfig:
    """Return the limits that the pod's cgroup should have. A limit counts only when every container has one, or at pod
    level; the pod's overhead is part of it."""
    if qos_class(pod) == "BestEffort":  # whatever its overhead is
        return ResourceConfig(MIN_CPU_SHARES)
    requests, limits = (effective_resources(pod, kind) for kind in ("requests", "limits"))
    bounded = bounded_resources(pod)
    quota = cpu_quota(math.ceil(limits.get("cpu", 0) * 1000)) if "cpu" in bounded else 0
    memory = math.ceil(limits.get("memory", 0)) if "memory" in bounded else 0
    return ResourceConfig(
        cpu_shares(math.ceil(requests.get("cpu", 0) * 1000)), quota or None, CPU_PERIOD_US, memory or None
    )


@by_resources
def bounded_resources(pod: Json) -> frozenset[str]:
    """Of cpu and memory, those whose use the pod's limits bound as a whole."""
    at_pod_level = resource_list(spec_of(pod), "limits")
    limits = [resource_list(container, "limits") for container in (*regular_containers(pod), *init_containers(pod))]
    return frozenset(
        name for name in ("cpu", "memory") if _is_set(at_pod_level, name) or all(_is_set(each, name) for each in limits)
    )


def _is_set(limits: Any, name: str) -> bool:
    """A limit of 0 is none."""
    return parse_quantity(limits.get(name) or 0) != 0


def inherit_limits(pod: Json, container: Json) -> Json:
    """The container's resources, with the pod-level limits of CPU and memory that it has none of its own for (GetLimits
    in pkg/kubelet/util)."""
    resources: Json = dict(container.get("resources") or {})
    own, of_pod = resource_list(container, "limits"), resource_list(spec_of(pod), "limits")
    inherited = {name: of_pod[name] for name in ("cpu", "memory") if _is_set(of_pod, name) and not _is_set(own, name)}
    if inherited:
        resources["limits"] = {**own, **inherited}
    return resources


def shares_to_milli(shares: int) -> int:
    """Thousandths of a CPU for cpu.shares, rounded up; 0 below the least shares (SharesToMilliCPU)."""
    return -(-shares * 1000 // 1024) if shares >= MIN_CPU_SHARES else 0


def quota_to_milli(quota_us: int, period_us: int) -> int:
    """Thousandths of a CPU for a CFS quota, 0 when there is none (QuotaToMilliCPU)."""
    return max(0, quota_us) * 1000 // period_us if period_us > 0 else 0


def cpu_weight(shares: int) -> int:
    """cgroup v2's weight (1-10000) of v1's shares (2-262144), linear as the kubelet's."""
    return 1 + (max(2, shares) - 2) * 9999 // 262142


def weight_to_shares(weight: int) -> int:
    """The other way; a weight stands for about 26 shares, so shares are not found again exactly."""
    return (weight - 1) * 262142 // 9999 + 2


@lru_cache(maxsize=512)
def format_milli(milli_cpu: int) -> str:
    return format_quantity(Fraction(milli_cpu, 1000))


def build_pod_level_resources(
    pod: Json, previous: Json, config: ResourceConfig | None = None, *, ended: bool = False
) -> Json:
    """Return PodStatus.resources and .allocatedResources, which every pod has.

    pod:      with the allocated resources
    previous: the PodStatus before
    config:   of the pod's cgroup, as read; None when it is not there (any more)
    ended:    the new status has a terminal phase
    """
    requests = _texts(pod, "requests")
    resources = _build_resources(pod, requests, previous, config)
    if ended and previous.get("phase") == "Running":
        resources = _without_kept_limits(pod, resources)
    return {"resources": resources, "allocatedResources": requests}


def _without_kept_limits(pod: Json, resources: Json) -> Json:
    """The last word of a pod that was Running. Where its cgroup has no limit, a kubelet repeats what the status said
    before only from Running to Running: limits of single containers, which the first status adds up, are gone then."""
    bounded = bounded_resources(pod)
    limits = {
        name: amount
        for name, amount in (resources.get("limits") or {}).items()
        if name not in ("cpu", "memory") or name in bounded
    }
    return _without_empty(resources, resources.get("requests") or {}, limits)


def _texts(pod: Json, kind: ResourceKind) -> dict[str, str]:
    return dict(_shared_texts(pod, kind))


@by_resources
def _shared_texts(pod: Json, kind: ResourceKind) -> Mapping[str, str]:
    return {name: str(amount) for name, amount in sorted(effective_amounts(pod, kind).items())}


def _build_resources(pod: Json, requests: dict[str, str], previous: Json, config: ResourceConfig | None) -> Json:
    phase, known = previous.get("phase"), previous.get("resources")
    if phase in TERMINAL_PHASES and known is not None:
        return dict(known)
    own: Json = spec_of(pod).get("resources") or {}
    if phase != "Running":
        return _without_empty(own, requests, _texts(pod, "limits"))
    actual_requests, actual_limits = dict(own.get("requests") or {}), dict(own.get("limits") or {})
    old_requests, old_limits = ((known or {}).get(kind) or {} for kind in ("requests", "limits"))
    request, limit = _cpu_request_milli(config), _cpu_limit_milli(config)
    if not request:
        _keep("cpu", old_requests, actual_requests)
    elif _shows_request(config, request, milli(actual_requests.get("cpu") or 0)):
        actual_requests["cpu"] = format_milli(request)
    if "memory" not in actual_requests and "memory" in requests:
        actual_requests["memory"] = requests["memory"]
    if not limit:
        _keep("cpu", old_limits, actual_limits)
    elif max(limit, milli(actual_limits.get("cpu") or 0)) > MIN_CPU_LIMIT_MILLI:
        actual_limits["cpu"] = format_milli(limit)
    if config is None or not config.memory:
        _keep("memory", old_limits, actual_limits)
    else:
        actual_limits["memory"] = format_quantity(Fraction(config.memory), binary=True)
    return _without_empty(own, actual_requests, actual_limits)


def _cpu_request_milli(config: ResourceConfig | None) -> int:
    return shares_to_milli(config.cpu_shares or 0) if config is not None else 0


def _cpu_limit_milli(config: ResourceConfig | None) -> int:
    return quota_to_milli(config.cpu_quota or 0, config.cpu_period) if config is not None else 0


def _shows_request(config: ResourceConfig | None, request: int, allocated: int) -> bool:
    """Whether the cgroup's request is another than the allocated one: not the least one, which stands for all smaller
    ones, and not what becomes of the allocated one on its way through a cgroup v2 weight."""
    if config is None or max(request, allocated) <= MIN_CPU_SHARES:
        return False
    return weight_to_shares(cpu_weight(cpu_shares(allocated))) != config.cpu_shares


def _keep(name: str, old: Json, new: dict[str, str]) -> None:
    if name in old:
        new[name] = old[name]


def _without_empty(own: Json, requests: dict[str, str], limits: dict[str, str]) -> Json:
    resources = {**own, "limits": limits, "requests": requests}
    return {name: value for name, value in resources.items() if value}
