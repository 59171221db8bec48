"""Histories made by hand."""

from __future__ import annotations

from typing import Any

from tests.differential.history import History, SeenEvent, Version
from vk_provider.jsontypes import Json

OURS, THEIRS = "diff-v-00", "diff-k-00"


def container(name: str = "main", **state: Any) -> Json:
    """A container's status."""
    return {"name": name, "restartCount": 0, "ready": "running" in state, "state": state, "image": "i"}


def running() -> Json:
    return container(running={"startedAt": "2026-11-28T10:00:00Z"})


def pod(uid: str, ip: str = "10.0.0.9", phase: str = "Running", *containers: Json, **more: Any) -> Json:
    """A pod with a status."""
    status = {
        "phase": phase,
        "hostIPs": [{"ip": "10.9.9.9"}],
        "podIPs": [{"ip": ip}],
        "podIP": ip,
        "containerStatuses": list(containers or [running()]),
        **more,
    }
    return {"metadata": {"name": "x", "uid": uid}, "status": status}


def history(namespace: str, *versions: tuple[float, Json], end: float = 20.0) -> History:
    """A history that was compared at `end`; times in seconds."""
    made = History(namespace, "nodeless" if namespace == OURS else "kubelet")
    made.versions = [Version(at, item) for at, item in versions]
    made.created = versions[0][1] if versions else {}
    made.snaps = {"end": end}
    made.deleted, made.gone, made.closed = end, end + 1, end + 2
    return made


def add_event(
    side: History,
    reason: str,
    message: str,
    count: int = 1,
    kind: str = "Normal",
    at: float = 1.0,
    last: float | None = None,
    of: str = "",
) -> None:
    """of: the container that it speaks of"""
    event: Json = {
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "involvedObject": {"kind": "Pod", "uid": side.uid, **({"fieldPath": f"spec.containers{{{of}}}"} if of else {})},
        "metadata": {"name": f"x.{len(side.events)}"},
    }
    side.events[event["metadata"]["name"]] = SeenEvent(at, at if last is None else last, event)
