"""CPU, memory and QoS of pods and containers: cgroup values, OOM scores, effective requests.

Source: kubelet (kuberuntime container resources, qos policy), KEP-753 sidecars, KEP-2837 pod-level resources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from vk_provider.jsontypes import Json
from vk_provider.podmodel.quantity import ceil_int, format_quantity, is_binary, is_exponent, milli, parse_quantity
from vk_provider.podmodel.resourceshape import by_resources
from vk_provider.podmodel.spec import init_containers, is_sidecar, regular_containers, spec_of

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]
ResourceKind = Literal["requests", "limits"]
CPU_PERIOD_US = 100_000
MIN_CPU_SHARES, MAX_CPU_SHARES = 2, 262_144
MIN_CPU_QUOTA_US = 1_000
_CRITICAL_PRIORITY = 2_000_000_000
_QOS_RESOURCES = ("cpu", "memory")
_PAGE_UNITS = ((30, "GB"), (20, "MB"), (10, "KB"), (0, "B"))


@dataclass(frozen=True)
class ContainerResources:
    """Values for CRI's LinuxContainerResources; 0 means unlimited for quota and memory.

    hugepage_limits: (page size as the kernel names it: "2MB", limit in bytes)
    """

    cpu_shares: int
    cpu_quota: int
    cpu_period: int
    memory_limit_bytes: int
    hugepage_limits: tuple[tuple[str, int], ...] = ()


def resource_list(holder: Json, kind: ResourceKind) -> Mapping[str, str]:
    """Return resources.requests or .limits of a container or pod spec."""
    return (holder.get("resources") or {}).get(kind) or {}


def cpu_shares(milli_cpu: int) -> int:
    """Return cpu.shares for a request in thousandths of a CPU."""
    return max(MIN_CPU_SHARES, min(MAX_CPU_SHARES, milli_cpu * 1024 // 1000))


def cpu_quota(milli_cpu: int) -> int:
    """Return the CFS quota in microseconds a period; 0 without a limit."""
    if milli_cpu == 0:
        return 0
    return max(MIN_CPU_QUOTA_US, milli_cpu * CPU_PERIOD_US // 1000)


def container_resources(pod: Json, container: Json) -> ContainerResources:
    """Return the cgroup values of one container; limits default to pod-level limits, a missing request to the limit."""
    limits = resource_list(container, "limits")
    pod_limits = resource_list(spec_of(pod), "limits")
    cpu_limit = milli(limits.get("cpu") or 0) or milli(pod_limits.get("cpu") or 0)
    memory_limit = ceil_int(limits.get("memory") or 0) or ceil_int(pod_limits.get("memory") or 0)
    request = resource_list(container, "requests").get("cpu")
    cpu_request = milli(request) if request is not None else cpu_limit
    return ContainerResources(
        cpu_shares=cpu_shares(cpu_request or (cpu_limit if request is None else 0)),
        cpu_quota=cpu_quota(cpu_limit),
        cpu_period=CPU_PERIOD_US,
        memory_limit_bytes=memory_limit,
        hugepage_limits=_hugepages(limits),
    )


def _hugepages(limits: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    found = []
    for name, amount in sorted(limits.items()):
        if name.startswith("hugepages-"):
            size = ceil_int(name.removeprefix("hugepages-"))
            shift, suffix = next(each for each in _PAGE_UNITS if size >> each[0])
            found.append((f"{size >> shift}{suffix}", ceil_int(amount)))
    return tuple(found)


@by_resources
def qos_class(pod: Json) -> QosClass:
    """Return the pod's QoS class from its spec."""
    spec = spec_of(pod)
    if _has_pod_level(spec):
        return _qos_of(spec)
    classes = {_qos_of(container) for container in (*init_containers(pod), *regular_containers(pod))}
    if len(classes) == 1:
        return classes.pop()
    return "Burstable" if classes else "BestEffort"


def _has_pod_level(spec: Json) -> bool:
    return any(
        name in _QOS_RESOURCES or name.startswith("hugepages-")
        for kind in ("requests", "limits")
        for name in ((spec.get("resources") or {}).get(kind) or {})
    )


def _qos_of(holder: Json) -> QosClass:
    classes: set[QosClass] = set()
    for name in _QOS_RESOURCES:
        request = parse_quantity(resource_list(holder, "requests").get(name) or 0)
        limit = parse_quantity(resource_list(holder, "limits").get(name) or 0)
        if request != limit:
            return "Burstable"
        classes.add("Guaranteed" if request else "BestEffort")
    return classes.pop() if len(classes) == 1 else "Burstable"


def oom_score_adj(pod: Json, container: Json, memory_capacity_bytes: int) -> int:
    """Return oom_score_adj of a container: -997 Guaranteed, 1000 BestEffort, in between by its share of memory."""
    spec = spec_of(pod)
    critical = (spec.get("priority") or 0) >= _CRITICAL_PRIORITY
    if critical and spec.get("priorityClassName") == "system-node-critical":
        return -997
    match qos_class(pod):
        case "Guaranteed":
            return -997
        case "BestEffort":
            return 1000
    extra = _unassigned_memory_share(pod)
    score = 1000 - 1000 * (_memory_request(container) + extra) // memory_capacity_bytes
    if _is_sidecar_of(pod, container):
        smallest = min((_memory_request(each) for each in regular_containers(pod)), default=0)
        score = min(score, 1000 - 1000 * (smallest + extra) // memory_capacity_bytes)
    return max(3, min(999, score))


def _memory_request(container: Json) -> int:
    return ceil_int(resource_list(container, "requests").get("memory") or 0)


def _unassigned_memory_share(pod: Json) -> int:
    pod_request = resource_list(spec_of(pod), "requests").get("memory")
    if pod_request is None:
        return 0
    of_containers = _container_resources(pod, "requests").get("memory")
    left = ceil_int(pod_request) - (math.ceil(of_containers.value) if of_containers else 0)
    return max(0, left) // max(1, len(regular_containers(pod)) + len(init_containers(pod)))


def _is_sidecar_of(pod: Json, container: Json) -> bool:
    return is_sidecar(container) and any(each is container or each == container for each in init_containers(pod))


class Amount(NamedTuple):
    """A quantity with the format in which it is written. As apimachinery's Quantity.Add, a sum keeps that of its first
    summand which is not zero."""

    value: Fraction
    binary: bool
    exponent: bool

    def __str__(self) -> str:
        return format_quantity(self.value, self.binary, self.exponent)


Amounts = dict[str, Amount]


def effective_resources(pod: Json, kind: ResourceKind, overhead: bool = True) -> dict[str, Fraction]:
    """Return what the pod needs at its highest point: max(init phase, sum of regular and sidecars) [+ overhead].

    Pod-level resources replace the sums of the resources they name. With `limits` a container without a limit adds
    nothing, so the result is a bound only if every container has one.
    """
    return {name: amount.value for name, amount in _effective_amounts(pod, kind, overhead).items()}


def effective_amounts(pod: Json, kind: ResourceKind, overhead: bool = True) -> Amounts:
    """The same with formats: PodRequests and PodLimits of k8s.io/component-helpers/resource."""
    return dict(_effective_amounts(pod, kind, overhead))


@by_resources
def _effective_amounts(pod: Json, kind: ResourceKind, overhead: bool) -> Mapping[str, Amount]:
    total = _container_resources(pod, kind)
    total |= _amounts(resource_list(spec_of(pod), kind))
    if overhead:
        extra = _amounts(spec_of(pod).get("overhead") or {})
        # a limit of 0 is none
        _add(total, {name: amount for name, amount in extra.items() if kind == "requests" or _has(total, name)})
    return total


def _container_resources(pod: Json, kind: ResourceKind) -> Amounts:
    """The same of the containers alone."""
    running: Amounts = {}
    for container in regular_containers(pod):
        _add(running, _amounts(resource_list(container, kind)))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in init_containers(pod):
        own = _amounts(resource_list(container, kind))
        if is_sidecar(container):
            _add(running, own)
            _add(sidecars, own)
            _raise_to(peak, sidecars)
        else:
            _add(own, sidecars)
            _raise_to(peak, own)
    _raise_to(running, peak)
    return {name: running[name] for name in sorted(running)}


def effective_bytes(pod: Json, kind: ResourceKind, name: str) -> int:
    """Return one effective resource rounded up to an integer, 0 when it is not asked for."""
    return math.ceil(effective_resources(pod, kind).get(name, Fraction(0)))


def _amounts(quantities: Mapping[str, str]) -> Amounts:
    return {name: _amount(text) for name, text in quantities.items()}


@lru_cache(maxsize=512)
def _amount(text: str) -> Amount:
    return Amount(parse_quantity(text), is_binary(text), is_exponent(text))


def _has(amounts: Amounts, name: str) -> bool:
    return name in amounts and amounts[name].value != 0


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        known = total.get(name)
        if known is None:
            total[name] = amount
        else:
            written = known if known.value else amount
            total[name] = Amount(known.value + amount.value, written.binary, written.exponent)


def _raise_to(total: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        if name not in total or amount.value > total[name].value:
            total[name] = amount
