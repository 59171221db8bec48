"""What the agent's request handlers and its stats loop need of the pod worker."""

from __future__ import annotations

from typing import Protocol

from vk_provider.jsontypes import Json


class PodView(Protocol):
    """The one pod of this instance, as the worker sees it now."""

    @property
    def pod(self) -> Json | None:
        """Newest API pod; None while the instance has none."""

    @property
    def status(self) -> Json:
        """Newest computed PodStatus."""

    @property
    def sandbox_id(self) -> str: ...

    def container_spec(self, name: str) -> Json | None: ...

    def container_id(self, name: str) -> str:
        """ID of the current (else the newest) container of that name, "" when there was none."""

    def log_path(self, container_id: str) -> str | None:
        """Absolute path of the container's log on the instance; None when the runtime does not know the container."""

    def volume_paths(self) -> dict[str, str]:
        """Volume name -> path on the instance."""


def is_running(view: PodView, name: str) -> bool:
    """Whether the status says that the container of that name runs."""
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for status in view.status.get(key) or ():
            if status.get("name") == name:
                return (status.get("state") or {}).get("running") is not None
    return False


def is_running_id(view: PodView, container_id: str) -> bool:
    """Whether the status says that this very container runs."""
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for status in view.status.get(key) or ():
            if str(status.get("containerID") or "").endswith(f"://{container_id}"):
                return (status.get("state") or {}).get("running") is not None
    return False
