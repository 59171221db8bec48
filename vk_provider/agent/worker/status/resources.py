"""What a container's status says of its resources. Pure.

Source: convertContainerStatusResources in pkg/kubelet/kubelet_pods.go, toKubeContainerResources and
toKubeContainerStatus in pkg/kubelet/kuberuntime (v1.37).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.worker.rules.observed import ObservedContainer, RuntimeResources, State
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import MIN_CPU_LIMIT_MILLI, format_milli, quota_to_milli, shares_to_milli
from vk_provider.podmodel.quantity import format_quantity, milli, parse_quantity
from vk_provider.podmodel.resources import MIN_CPU_SHARES, ResourceKind, resource_list


def parse_runtime_resources(status: pb.ContainerStatus) -> RuntimeResources | None:
    """None when the runtime does not report any (containerd before 1.7)."""
    if not status.HasField("resources") or not status.resources.HasField("linux"):
        return None
    linux = status.resources.linux
    request, limit = shares_to_milli(linux.cpu_shares), quota_to_milli(linux.cpu_quota, linux.cpu_period)
    found = RuntimeResources(
        cpu_request=format_milli(request) if request else None,
        cpu_limit=format_milli(limit) if limit else None,
        memory_limit=format_quantity(Fraction(linux.memory_limit_in_bytes), binary=True)
        if linux.memory_limit_in_bytes > 0
        else None,
    )
    return None if found == RuntimeResources() else found


def build_resources_status(
    container: Json, record: ObservedContainer, actuated: Json | None, old: Json | None
) -> tuple[Json, Mapping[str, str]]:
    """Return `resources` and `allocatedResources` of a container's status.

    container: with the allocated resources
    actuated:  the resources that the runtime was given last, None when that is not known
    old:       the status before
    """
    allocated: Json = container.get("resources") or {}
    requests, limits = (dict(resource_list(container, kind)) for kind in ("requests", "limits"))
    if record.state is not State.RUNNING:
        return allocated, requests
    actual = _complete(record.resources, actuated)
    kept = _resources_before(record, old)
    # As a kubelet, only in a list that the spec has: nothing is said of limits where the spec has none at all.
    if limits:
        least = milli(limits.get("cpu") or 0) <= MIN_CPU_LIMIT_MILLI
        _take_cpu(limits, actual.cpu_limit, MIN_CPU_LIMIT_MILLI if least else 0, kept, "limits")
        _take(limits, "memory", actual.memory_limit, kept, "limits")
    shown = dict(requests)
    if shown:
        least = milli(shown.get("cpu") or 0) <= MIN_CPU_SHARES
        _take_cpu(shown, actual.cpu_request, MIN_CPU_SHARES if least else 0, kept, "requests")
        _take(shown, "memory", actual.memory_request, kept, "requests")
    lists = {"limits": limits, "requests": shown}
    return {**allocated, **{kind: amounts for kind, amounts in lists.items() if amounts}}, requests


def _complete(reported: RuntimeResources | None, actuated: Json | None) -> RuntimeResources:
    """What the runtime reports; else what it was given, where a missing amount is 0 and not unknown."""
    if actuated is None:
        return reported or RuntimeResources()
    requests, limits = actuated.get("requests") or {}, actuated.get("limits") or {}
    memory_request = str(requests.get("memory") or "0")
    if reported is None:
        return RuntimeResources(
            requests.get("cpu") or "0", limits.get("cpu") or "0", memory_request, limits.get("memory") or "0"
        )
    return RuntimeResources(
        reported.cpu_request,
        reported.cpu_limit,
        memory_request if parse_quantity(memory_request) else None,
        reported.memory_limit,
    )


def _resources_before(record: ObservedContainer, old: Json | None) -> Json:
    """Resources of the same running container in the status before, {} when there is none."""
    same = (
        old is not None
        and "running" in (old.get("state") or {})
        and old.get("containerID") == f"containerd://{record.id}"
    )
    return (old or {}).get("resources") or {} if same else {}


def _take_cpu(amounts: dict[str, str], actual: str | None, least: int, kept: Json, kind: ResourceKind) -> None:
    """As _take, but an amount at or below the least one that a cgroup can hold says nothing."""
    if actual is None or milli(actual) > least or not least:
        _take(amounts, "cpu", actual, kept, kind)


def _take(amounts: dict[str, str], name: str, actual: str | None, kept: Json, kind: ResourceKind) -> None:
    if actual is not None:
        amounts[name] = actual
    elif name in (kept.get(kind) or {}):
        amounts[name] = kept[kind][name]
