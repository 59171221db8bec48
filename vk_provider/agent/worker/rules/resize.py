"""In-place resize: what the API wants, what was allocated, what the running containers have. Pure.

Source: KEP-1287, pkg/kubelet/allocation and kuberuntime's computePodResizeAction (v1.37).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vk_provider.agent.worker.rules.spec import init_containers, regular_containers, spec_of
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import inherit_limits
from vk_provider.podmodel.quantity import ceil_int, parse_quantity
from vk_provider.podmodel.resources import effective_resources

RESIZABLE = ("memory", "cpu")
"""In the order in which they are resized."""


@dataclass(frozen=True, slots=True)
class ResizePlan:
    """What to do about running containers whose resources differ from the allocated ones.

    update:  resource -> names of containers to update in place; those that give something back come first
    restart: names whose resizePolicy asks for a restart
    """

    update: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    restart: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_empty(self) -> bool:
        return not self.restart and not any(self.update.values())


def desired_resources(pod: Json) -> dict[str, Json]:
    """Container name -> resources of the spec; only containers whose resources may change, which are all but the
    ephemeral ones (InPlacePodVerticalScalingInitContainers)."""
    containers = (*regular_containers(pod), *init_containers(pod))
    return {container["name"]: container.get("resources") or {} for container in containers}


def desired_pod_resources(pod: Json) -> Json:
    """Pod-level resources of the spec, {} without any (InPlacePodLevelResourcesVerticalScaling)."""
    resources: Json = spec_of(pod).get("resources") or {}
    return resources


def with_allocated(pod: Json, allocated: Mapping[str, Json], allocated_pod: Json) -> Json:
    """The pod with its containers' and its own resources replaced by the allocated ones; the same object when nothing
    differs."""
    desired = desired_resources(pod)
    changed = {name for name, resources in allocated.items() if name in desired and desired[name] != resources}
    if not changed and desired_pod_resources(pod) == allocated_pod:
        return pod

    def replaced(container: Json) -> Json:
        name = container["name"]
        return {**container, "resources": allocated[name]} if name in changed else container

    spec = dict(spec_of(pod))
    for listed in ("containers", "initContainers"):
        if spec.get(listed):
            spec[listed] = [replaced(container) for container in spec[listed]]
    if allocated_pod or spec.get("resources"):
        spec["resources"] = allocated_pod
    return {**pod, "spec": spec}


def find_misfit(pod: Json, capacity: Mapping[str, str]) -> str:
    """Why the pod's requests can never fit this instance, "" when they do. capacity: the node's allocatable."""
    requests = effective_resources(pod, "requests")
    for name in reversed(RESIZABLE):
        if name in capacity and requests.get(name, 0) > parse_quantity(capacity[name]):
            scale = 1000 if name == "cpu" else 1
            wanted, have = (math.ceil(amount * scale) for amount in (requests[name], parse_quantity(capacity[name])))
            return f"Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {have}"
    return ""


def plan_resize(pod: Json, actuated: Mapping[str, Json], actuated_pod: Json, running: frozenset[str]) -> ResizePlan:
    """pod: with allocated resources. actuated, actuated_pod: what running containers and the pod were last given."""
    update: dict[str, list[str]] = {name: [] for name in RESIZABLE}
    restart: set[str] = set()
    for container in (*regular_containers(pod), *init_containers(pod)):
        name = container["name"]
        if name not in running or name not in actuated:
            continue
        deltas = compute_deltas(
            inherit_limits(pod, container), inherited_before(container, actuated[name], actuated_pod)
        )
        policies = {each["resourceName"]: each.get("restartPolicy") for each in container.get("resizePolicy") or []}
        if any(policies.get(resource) == "RestartContainer" for resource in deltas):
            restart.add(name)
            continue
        for resource, sign in deltas.items():
            update[resource].insert(0 if sign < 0 else len(update[resource]), name)
    return ResizePlan({resource: tuple(names) for resource, names in update.items()}, frozenset(restart))


def starts_resized(pod: Json, actuated: Mapping[str, Json], actuated_pod: Json, names: Iterable[str]) -> bool:
    """Whether one of these containers, which are to start, was given other resources before, or would have been
    (startingResizedContainer). Arguments as those of plan_resize."""
    containers = {container["name"]: container for container in (*regular_containers(pod), *init_containers(pod))}
    return any(
        name in actuated
        and compute_deltas(
            inherit_limits(pod, containers[name]), inherited_before(containers[name], actuated[name], actuated_pod)
        )
        for name in names
    )


def inherited_before(container: Json, actuated: Json, actuated_pod: Json) -> Json:
    """The container's actuated resources with the limits that it inherited from the pod's actuated ones."""
    return inherit_limits({"spec": {"resources": actuated_pod}}, {**container, "resources": actuated})


def compute_deltas(wanted: Json, actual: Json) -> dict[str, int]:
    """Resource name -> sign of the change of its limit, or of its request if only that changes."""
    signs: dict[str, int] = {}
    for kind in ("requests", "limits"):
        new, old = wanted.get(kind) or {}, actual.get(kind) or {}
        for name in RESIZABLE:
            difference = parse_quantity(new.get(name) or 0) - parse_quantity(old.get(name) or 0)
            if difference:
                signs[name] = 1 if difference > 0 else -1
    return signs


def with_resource(actual: Json, wanted: Json, resource: str) -> Json:
    """The wanted resources, with CPU or memory other than `resource` as it is now: they are updated one by one."""
    result = dict(wanted)
    others = [name for name in RESIZABLE if name != resource]
    for kind in ("requests", "limits"):
        amounts = {name: value for name, value in (wanted.get(kind) or {}).items() if name not in others}
        amounts |= {name: value for name, value in (actual.get(kind) or {}).items() if name in others}
        result[kind] = amounts
    return {key: value for key, value in result.items() if value}


def with_stated_request(resources: Json) -> Json:
    """The resources as an update names them: a kubelet asks for CPU of 0 where none is asked for
    (updatePodContainerResources), so the container has the least shares from then on, and those of its limit only until
    its first resize."""
    return {**resources, "requests": {"cpu": "0", **(resources.get("requests") or {})}}


def decreasing_memory_limits(pod: Json, actuated: Mapping[str, Json], names: Iterable[str]) -> dict[str, int]:
    """Container name -> its new memory limit in bytes, of those in `names` whose limit is added or gets lower."""
    found: dict[str, int] = {}
    containers = {container["name"]: container for container in (*regular_containers(pod), *init_containers(pod))}
    for name in names:
        wanted = inherit_limits(pod, containers[name])
        new, old = (
            ceil_int((resources.get("limits") or {}).get("memory") or 0)
            for resources in (wanted, actuated.get(name) or {})
        )
        if new and (not old or new < old):
            found[name] = new
    return found


def refuse_memory_decrease(
    limits: Mapping[str, int], usage: Mapping[str, int], pod_limit: int | None = None, pod_usage: int | None = None
) -> str:
    """Why these memory limits must not be set, "" when they may: the kernel would kill or refuse (the kubelet's
    validateMemoryResizeAction).

    usage: container name -> bytes in use. pod_limit: the pod's own limit if it is added or gets lower
    """
    errors = []
    if pod_limit is not None and pod_usage is None:
        errors.append("missing pod memory usage")
    elif pod_limit is not None and pod_usage is not None and pod_usage >= pod_limit:
        errors.append(f"attempting to set pod memory limit ({pod_limit}) below current usage ({pod_usage})")
    errors += [
        f'attempting to set container "{name}" memory limit ({limit}) below current usage ({usage[name]})'
        if name in usage
        else f'missing container "{name}" memory usage'
        for name, limit in limits.items()
        if name not in usage or usage[name] >= limit
    ]
    if not errors:
        return ""
    return f"cannot decrease memory limits: {errors[0] if len(errors) == 1 else '[' + ', '.join(errors) + ']'}"


def resize_message(prefix: str, pod: Json, generation: int, error: str = "") -> str:
    """`<prefix>: {json summary}` of a resize event (pkg/kubelet/events/resize.go), without pod-level resources."""
    summary: Json = {}
    for key, containers in (("initContainers", init_containers(pod)), ("containers", regular_containers(pod))):
        if containers:
            summary[key] = [{"name": c["name"], "resources": c.get("resources") or {}} for c in containers]
    summary["generation"] = generation
    if error:
        summary["error"] = error
    return f"{prefix}: {json.dumps(summary, separators=(',', ':'))}"
