"""An instance that shuts down counts as gone, while it still runs the pod's last seconds."""

from __future__ import annotations

from vk_provider.cloud.base import InstanceState


def put_back() -> None:
    def has_stopped(self: InstanceState) -> bool:
        return self in (InstanceState.SHUTTING_DOWN, InstanceState.STOPPED, InstanceState.TERMINATED)

    InstanceState.has_stopped = property(has_stopped)
