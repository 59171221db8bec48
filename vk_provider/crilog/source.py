"""Which container instance a log request means, from the PodStatus (kubelet_pods.go validateContainerLogStatus)."""

from __future__ import annotations

from vk_provider.jsontypes import Json

_STATUS_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_SPEC_LISTS = ("containers", "initContainers", "ephemeralContainers")


class LogUnavailableError(Exception):
    """There is no log to show; str() is the kubelet's answer (HTTP 400)."""


def find_container_spec(pod: Json, name: str) -> Json | None:
    """The container of that name in the pod's spec, ephemeral and init containers included."""
    spec = pod.get("spec") or {}
    for key in _SPEC_LISTS:
        for container in spec.get(key) or ():
            if container.get("name") == name:
                return dict(container)
    return None


def find_container_status(status: Json, name: str) -> Json | None:
    """The ContainerStatus of that name."""
    for key in _STATUS_LISTS:
        for container in status.get(key) or ():
            if container.get("name") == name:
                return dict(container)
    return None


def select_log_source(pod_name: str, status: Json, container: str, previous: bool) -> str:
    """Return the container ID with its scheme (`containerd://...`) whose log answers. Raises LogUnavailableError."""
    found = find_container_status(status, container)
    where = f'container "{container}" in pod "{pod_name}"'
    if found is None:
        raise LogUnavailableError(f"{where} is not available")
    state = found.get("state") or {}
    last = (found.get("lastState") or {}).get("terminated")
    last_id = str((last or {}).get("containerID") or "")
    if previous:
        if not last_id:
            raise LogUnavailableError(f'previous terminated container "{container}" in pod "{pod_name}" not found')
        return last_id
    if state.get("running") is not None:
        return str(found.get("containerID") or "")
    terminated = state.get("terminated")
    if terminated is not None or last is not None:
        chosen = str((terminated or {}).get("containerID") or "") or last_id
        if not chosen:
            raise LogUnavailableError(f"{where} is terminated")
        return chosen
    if state.get("waiting") is None:
        raise LogUnavailableError(f"{where} is waiting to start - no logs yet")
    reason = str(state["waiting"].get("reason") or "")
    explained = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }.get(reason, reason)
    raise LogUnavailableError(f"{where} is waiting to start: {explained}")


def trim_container_scheme(container_id: str) -> str:
    """`containerd://abc` -> `abc`."""
    return container_id.partition("://")[2] or container_id
