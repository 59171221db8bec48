"""In-place resize: what the API wants, what was allocated, what the running containers have. Pure.

Source: KEP-1287, pkg/kubelet/allocation and kuberuntime's computePodResizeAction (v1.37).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vk_provider.agent.worker.spec import init_containers, is_sidecar, metadata_of, regular_containers, spec_of
from vk_provider.jsontypes import Json
from vk_provider.podmodel.quantity import ceil_int, parse_quantity
from vk_provider.podmodel.resources import effective_resources

_RESIZABLE = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class ResizePlan:
    """What to do about running containers whose resources differ from the allocated ones.

    decrease: names to update in place that give something back; they come first
    increase: names to update in place that only get more
    restart:  names whose resizePolicy asks for a restart
    """

    decrease: tuple[str, ...] = ()
    increase: tuple[str, ...] = ()
    restart: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_empty(self) -> bool:
        return not (self.decrease or self.increase or self.restart)


def desired_resources(pod: Json) -> dict[str, Json]:
    """Container name -> resources of the spec; only containers whose resources may change."""
    sidecars = [container for container in init_containers(pod) if is_sidecar(container)]
    return {container["name"]: container.get("resources") or {} for container in [*regular_containers(pod), *sidecars]}


def with_allocated(pod: Json, allocated: Mapping[str, Json]) -> Json:
    """The pod with its containers' resources replaced by the allocated ones; the same object when nothing differs."""
    desired = desired_resources(pod)
    changed = {name for name, resources in allocated.items() if name in desired and desired[name] != resources}
    if not changed:
        return pod

    def replaced(container: Json) -> Json:
        name = container["name"]
        return {**container, "resources": allocated[name]} if name in changed else container

    spec = dict(spec_of(pod))
    for listed in ("containers", "initContainers"):
        if spec.get(listed):
            spec[listed] = [replaced(container) for container in spec[listed]]
    return {**pod, "spec": spec}


def find_misfit(pod: Json, capacity: Mapping[str, str]) -> str:
    """Why the pod's requests can never fit this instance, "" when they do. capacity: the node's allocatable."""
    requests = effective_resources(pod, "requests")
    for name in _RESIZABLE:
        if name in capacity and requests.get(name, 0) > parse_quantity(capacity[name]):
            scale = 1000 if name == "cpu" else 1
            wanted, have = int(requests[name] * scale), int(parse_quantity(capacity[name]) * scale)
            return f"Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {have}"
    return ""


def plan_resize(pod: Json, actuated: Mapping[str, Json], running: frozenset[str]) -> ResizePlan:
    """pod: with allocated resources. actuated: what running containers were last given."""
    decreases: list[str] = []
    increases: list[str] = []
    restart: set[str] = set()
    policies = {
        container["name"]: {p["resourceName"]: p.get("restartPolicy") for p in container.get("resizePolicy") or []}
        for container in [*regular_containers(pod), *init_containers(pod)]
    }
    for name, wanted in desired_resources(pod).items():
        if name not in running or name not in actuated:
            continue
        deltas = _deltas(wanted, actuated[name])
        if not deltas:
            continue
        if any(policies[name].get(resource) == "RestartContainer" for resource in deltas):
            restart.add(name)
        else:
            (decreases if min(deltas.values()) < 0 else increases).append(name)
    return ResizePlan(tuple(decreases), tuple(increases), frozenset(restart))


def _deltas(wanted: Json, actual: Json) -> dict[str, int]:
    """Resource name -> sign of its change, over requests and limits."""
    signs: dict[str, int] = {}
    for kind in ("requests", "limits"):
        new, old = wanted.get(kind) or {}, actual.get(kind) or {}
        for name in _RESIZABLE:
            difference = parse_quantity(new.get(name) or 0) - parse_quantity(old.get(name) or 0)
            if difference:
                signs[name] = min(signs.get(name, 1), 1 if difference > 0 else -1)
    return signs


def decreasing_memory_limits(pod: Json, actuated: Mapping[str, Json], names: Iterable[str]) -> dict[str, int]:
    """Container name -> its new memory limit in bytes, of those in `names` whose limit is added or gets lower."""
    found: dict[str, int] = {}
    desired = desired_resources(pod)
    for name in names:
        new, old = (
            ceil_int((which.get(name) or {}).get("limits", {}).get("memory") or 0) for which in (desired, actuated)
        )
        if new and (not old or new < old):
            found[name] = new
    return found


def refuse_memory_decrease(limits: Mapping[str, int], usage: Mapping[str, int]) -> str:
    """Why these memory limits must not be set, "" when they may: the kernel would kill or refuse (the kubelet's
    validateMemoryResizeAction). usage: container name -> bytes in use."""
    errors = [
        f'attempting to set container "{name}" memory limit ({limit}) below current usage ({usage[name]})'
        if name in usage
        else f'missing container "{name}" memory usage'
        for name, limit in limits.items()
        if name not in usage or usage[name] >= limit
    ]
    if not errors:
        return ""
    return f"cannot decrease memory limits: {errors[0] if len(errors) == 1 else '[' + ', '.join(errors) + ']'}"


def resize_message(prefix: str, pod: Json, generation: int | None = None, error: str = "") -> str:
    """`<prefix>: {json summary}` of a resize event."""
    summary: Json = {}
    for key, containers in (("initContainers", init_containers(pod)), ("containers", regular_containers(pod))):
        if containers:
            summary[key] = [{"name": c["name"], "resources": c.get("resources") or {}} for c in containers]
    summary["generation"] = generation if generation is not None else metadata_of(pod).get("generation") or 0
    if error:
        summary["error"] = error
    return f"{prefix}: {json.dumps(summary, separators=(',', ':'))}"
