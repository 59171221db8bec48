"""Reading a Pod object: names, containers of each kind, identity in messages."""

from __future__ import annotations

from collections.abc import Iterator

from vk_provider.jsontypes import Json

STATUS_LISTS = {
    "initContainerStatuses": "initContainers",
    "containerStatuses": "containers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}
"""Field of PodStatus -> field of PodSpec with the containers that it is about."""


def container_statuses(status: Json) -> Iterator[Json]:
    """The ContainerStatuses of a PodStatus, of all kinds."""
    for field in STATUS_LISTS:
        yield from status.get(field) or []


def spec_of(pod: Json) -> Json:
    """Return pod.spec ({} when absent)."""
    return pod.get("spec") or {}


def metadata_of(pod: Json) -> Json:
    """Return pod.metadata ({} when absent)."""
    return pod.get("metadata") or {}


def namespace_of(pod: Json) -> str:
    """Return the pod's namespace."""
    return metadata_of(pod).get("namespace") or "default"


def name_of(pod: Json) -> str:
    """Return the pod's name."""
    return metadata_of(pod).get("name") or ""


def uid_of(pod: Json) -> str:
    """Return the pod's UID."""
    return metadata_of(pod).get("uid") or ""


def describe_pod(pod: Json) -> str:
    """Return `name_namespace(uid)`, the form in the kubelet's messages."""
    return f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"


def init_containers(pod: Json) -> list[Json]:
    """Return spec.initContainers, sidecars among them."""
    return spec_of(pod).get("initContainers") or []


def regular_containers(pod: Json) -> list[Json]:
    """Return spec.containers."""
    return spec_of(pod).get("containers") or []


def ephemeral_containers(pod: Json) -> list[Json]:
    """Return spec.ephemeralContainers."""
    return spec_of(pod).get("ephemeralContainers") or []


def all_containers(pod: Json) -> Iterator[Json]:
    """Iterate over init, regular and ephemeral containers in this order."""
    yield from init_containers(pod)
    yield from regular_containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Json, name: str) -> Json | None:
    """Return the spec of a container of any kind, or None."""
    return next((container for container in all_containers(pod) if container.get("name") == name), None)


def is_sidecar(container: Json) -> bool:
    """Tell whether an init container is a sidecar (restartPolicy Always). Only ask about init containers."""
    return container.get("restartPolicy") == "Always"


def is_host_network(pod: Json) -> bool:
    """Tell whether the pod uses the instance's own network namespace."""
    return bool(spec_of(pod).get("hostNetwork"))


def field_path(pod: Json, container_name: str) -> str:
    """Return the event field path of a container: spec.containers{c}, spec.initContainers{c}, ..."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        if any(container.get("name") == container_name for container in spec_of(pod).get(kind) or []):
            return f"spec.{kind}{{{container_name}}}"
    return ""
