"""What the worker reads from a pod's spec beyond podmodel.spec: container kinds, hash, grace, log paths. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.restart import decide_restart, find_restart_rule
from vk_provider.podmodel.spec import (
    all_containers,
    describe_pod,
    ephemeral_containers,
    init_containers,
    is_host_network,
    is_sidecar,
    metadata_of,
    name_of,
    namespace_of,
    regular_containers,
    spec_of,
    uid_of,
)

__all__ = [
    "ContainerKind",
    "ContainerRef",
    "back_off_key",
    "container_hash",
    "describe_pod",
    "ephemeral_containers",
    "find_ref",
    "generation_of",
    "grace_period_s",
    "has_ended_in_api",
    "init_containers",
    "is_deleted",
    "is_host_network",
    "is_sidecar",
    "iter_refs",
    "log_directory",
    "matching_rule_action",
    "metadata_of",
    "name_of",
    "namespace_of",
    "pod_restart_policy",
    "regular_containers",
    "restarts_after_exit",
    "spec_of",
    "uid_of",
]

ContainerKind = Literal["init", "regular", "ephemeral"]

DEFAULT_GRACE_PERIOD_S = 30
_LISTS: dict[ContainerKind, str] = {
    "init": "initContainers",
    "regular": "containers",
    "ephemeral": "ephemeralContainers",
}


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """One container of the spec with the list it stands in."""

    kind: ContainerKind
    spec: Json

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def field_path(self) -> str:
        """The event's involvedObject.fieldPath, `spec.containers{app}`."""
        return f"spec.{_LISTS[self.kind]}{{{self.name}}}"


def iter_refs(pod: Json) -> Iterator[ContainerRef]:
    """All containers: init, regular, ephemeral, each in spec order."""
    for kind, listed in _LISTS.items():
        for container in spec_of(pod).get(listed) or []:
            yield ContainerRef(kind, container)


def find_ref(pod: Json, name: str) -> ContainerRef | None:
    return next((ref for ref in iter_refs(pod) if ref.name == name), None)


def with_mounted_volumes(pod: Json) -> Json:
    """The pod without the volumes that no container mounts: they are not set up, so what they lack keeps nothing from
    starting (pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go processPodVolumes)."""
    spec = spec_of(pod)
    mounted = {mount.get("name") for container in all_containers(pod) for mount in container.get("volumeMounts") or []}
    volumes = [volume for volume in spec.get("volumes") or [] if volume["name"] in mounted]
    return pod if len(volumes) == len(spec.get("volumes") or []) else {**pod, "spec": {**spec, "volumes": volumes}}


def generation_of(pod: Json) -> int:
    """metadata.generation, 0 without one."""
    return int(metadata_of(pod).get("generation") or 0)


def is_deleted(pod: Json) -> bool:
    return bool(metadata_of(pod).get("deletionTimestamp"))


def with_local_annotations(pod: Json, first_seen: str) -> Json:
    """The pod with the annotations that a kubelet adds to its own copy, seen by the downward API and by the runtime
    (pkg/kubelet/config/config.go, localAnnotations). first_seen: RFC 3339 with nanoseconds."""
    metadata = metadata_of(pod)
    local = {"kubernetes.io/config.seen": first_seen, "kubernetes.io/config.source": "api"}
    return {**pod, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **local}}}


def has_ended_in_api(pod: Json) -> bool:
    """Whether the API object has a terminal phase, set by any writer."""
    return (pod.get("status") or {}).get("phase") in TERMINAL_PHASES


def pod_restart_policy(pod: Json) -> str:
    return str(spec_of(pod).get("restartPolicy") or "Always")


def container_hash(container: Json) -> str:
    """Changes when the fields change that the API lets one mutate and that need a new container: name and image."""
    identity = f"{container['name']}|{container.get('image', '')}"
    return f"{zlib.crc32(identity.encode()):08x}"


def back_off_key(container: Json) -> str:
    """What a container's restarts are counted by: a new image or new resources start anew."""
    resources = json.dumps(container.get("resources") or {}, sort_keys=True)
    return f"{container['name']}_{container_hash(container)}_{zlib.crc32(resources.encode()):08x}"


def matching_rule_action(container: Json, exit_code: int) -> str:
    """Action of the first restartPolicyRules entry that matches, "" when none does (KEP-5307)."""
    return str((find_restart_rule(container, exit_code) or {}).get("action", ""))


def restarts_after_exit(pod: Json, container: Json, exit_code: int, *, is_init: bool = False) -> bool:
    return decide_restart(pod, container, exit_code, is_init).restart


def log_directory(pod: Json) -> str:
    return f"/var/log/pods/{namespace_of(pod)}_{name_of(pod)}_{uid_of(pod)}"


def grace_period_s(pod: Json) -> int:
    """Seconds that the spec gives containers to stop."""
    seconds = spec_of(pod).get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_PERIOD_S if seconds is None else int(seconds)
