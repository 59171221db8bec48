"""Small Pod objects for the tables of this room."""

from __future__ import annotations

import base64
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.wire.session import NodeFacts

NODE = NodeFacts(
    name="node-1",
    allocatable={"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi"},
    clusterDNS=["10.0.0.10"],
    clusterDomain="cluster.local",
)
CONTEXT = PodContext(pod_ips=("10.1.0.5",), host_ips=("10.1.0.4",), node=NODE)


def make_pod(*containers: Json, metadata: Json | None = None, status: Json | None = None, **spec: Any) -> Json:
    """Return a pod named web in namespace shop with UID u-1."""
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 3, **(metadata or {})},
        "spec": {"containers": list(containers) or [{"name": "c"}], **spec},
        "status": status or {},
    }


def b64(text: str | bytes) -> str:
    """Return a Secret's value."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def waiting(name: str, reason: str = "ContainerCreating", last_exit: int | None = None) -> Json:
    """Return the status of a waiting container."""
    status: Json = {"name": name, "state": {"waiting": {"reason": reason}}, "ready": False}
    if last_exit is not None:
        status["lastState"] = {"terminated": {"exitCode": last_exit}}
    return status


def running(name: str, ready: bool = True, started: bool | None = True) -> Json:
    """Return the status of a running container."""
    return {
        "name": name,
        "state": {"running": {"startedAt": "2025-01-01T00:00:00Z"}},
        "ready": ready,
        "started": started,
    }


def ended(name: str, exit_code: int = 0, reason: str = "Completed") -> Json:
    """Return the status of a container that ended; an init container that exited 0 is ready."""
    return {"name": name, "state": {"terminated": {"exitCode": exit_code, "reason": reason}}, "ready": exit_code == 0}
