"""An agent that runs nothing and at once reports a pod that works. Pure: time is an argument."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import orjson

from vk_provider import eventreasons
from vk_provider.cloud.base import Instance
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json, to_text
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.podresources import build_resource_config
from vk_provider.podmodel.resources import resource_list
from vk_provider.podmodel.status import ContainerStatuses, Ending, PodEnd, SandboxFacts, build_pod_status
from vk_provider.wire.packed import PACKED_FEATURE
from vk_provider.wire.session import SERVICES_FEATURE
from vk_provider.wire.tables import TABLES_FEATURE, TableName, TableStates


class _Event(NamedTuple):
    seq: int
    reason: EventReason
    message: str
    field_path: str
    timestamp: str


class SimulatedAgent:
    """State of one instance's agent: the pod, its status, events not acknowledged yet.

    Thousands of these share the provider's process, so pod and status are kept as JSON text, and events without what
    they have in common.
    """

    def __init__(self, instance: Instance, started_at: str) -> None:
        self.instance = instance
        self.started_at = started_at
        self.uid = ""
        self.finished = False
        self._pod = self._status = b""
        self._events: list[_Event] = []
        self._seq = 0
        self._running_since = ""
        self._end: PodEnd | None = None
        self.tables: TableStates = {}
        self.grant = ""

    @property
    def pod(self) -> Json | None:
        """The newest pod that was received."""
        return orjson.loads(self._pod) if self._pod else None

    @property
    def status(self) -> Json | None:
        """The pod's status, None before the first."""
        return orjson.loads(self._status) if self._status else None

    def hello(self) -> list[Json]:
        """The first messages of a new session."""
        first: Json = {
            "type": "hello",
            "version": 1,
            "features": [SERVICES_FEATURE, TABLES_FEATURE, PACKED_FEATURE],
            "tables": self.tables,
            "instanceID": self.instance.instance_id,
            "podUID": self.uid,
            "agentStartedAt": self.started_at,
            **({"grant": self.grant} if self.grant else {}),
        }
        return [first, *([self._status_message()] if self._status else []), *self.events]

    def receive(self, message: Json, now: str) -> list[Json]:
        """One message from the provider; returns the answers. `now` is RFC 3339."""
        match message["type"]:
            case "pod":
                self.grant = self.grant or (message.get("node") or {}).get("grant", "")
                return self._on_pod(message["pod"], now)
            case "stop":
                self._end = PodEnd(message["reason"], message["message"], bool(message.get("disruption")))
                return self.finish(now, exit_code=137)
            case "table":
                return self._on_table(message["name"], message["base"], message["revision"])
            case "ack":
                self._events = [event for event in self._events if event.seq > message["seq"]]
        return []

    def _on_table(self, name: TableName, base: str, revision: str) -> list[Json]:
        """Every text is applied at once, unless it is a difference to another table."""
        if base not in ("", self.tables.get(name, "")):
            return [{"type": "tables", "tables": self.tables, "name": name, "error": "another revision is in force"}]
        self.tables[name] = revision
        return [{"type": "tables", "tables": self.tables, "name": name}]

    def _on_pod(self, pod: Json, now: str) -> list[Json]:
        first = not self.uid
        self.uid, self._pod = str(pod["metadata"]["uid"]), to_text(pod)
        if pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in TERMINAL_PHASES:
            return self.finish(now, exit_code=0, pod=pod)
        if self.finished:
            return []
        before, self._running_since = self._status, self._running_since or now
        self._build(pod, now, [_running(c, self._running_since, self._id(c)) for c in pod["spec"]["containers"]])
        if first:
            self._record_start(pod, now)
            return [self._status_message(), *self.events]
        return [self._status_message()] if self._status != before else []  # resized, say

    def finish(self, now: str, exit_code: int, pod: Json | None = None) -> list[Json]:
        """All containers terminate, as those of a deleted pod and of a Job's pod do. pod: the newest, where the caller
        has it."""
        pod = pod or self.pod
        if pod is None or self.finished:
            return []
        since = self._running_since or now
        ended = [_terminated(c, since, now, exit_code, self._id(c)) for c in pod["spec"]["containers"]]
        self._build(pod, now, ended, finished=True)
        self.finished = True
        return [self._status_message()]

    def _build(self, pod: Json, now: str, statuses: list[Json], *, finished: bool = False) -> None:
        since = self._running_since or now
        ips = () if finished else self.instance.pod_ips
        init = [_initialized(c, since, self._id(c), finished) for c in pod["spec"].get("initContainers") or []]
        status = build_pod_status(
            pod,
            ContainerStatuses(init=init, regular=statuses),
            SandboxFacts(True, not finished, ips, started_containers=True, config=build_resource_config(pod)),
            PodContext(pod_ips=self.instance.pod_ips, host_ips=self.instance.host_ips),
            now,
            ending=Ending(finished, finished=finished, cause=self._end),
            previous_status=self.status,
        )
        self._status = to_text(status)

    def _record_start(self, pod: Json, now: str) -> None:
        spec = pod["spec"]
        for kind in ("initContainers", "containers"):
            for container in spec.get(kind) or []:
                path = f"spec.{kind}{{{container['name']}}}"
                image = container.get("image", "")
                self._event(eventreasons.PULLED, f'Container image "{image}" already present on machine', path, now)
                self._event(eventreasons.CREATED, "Container created", path, now)
                self._event(eventreasons.STARTED, "Container started", path, now)

    def _event(self, reason: EventReason, message: str, field_path: str, now: str) -> None:
        self._seq += 1
        self._events.append(_Event(self._seq, reason, message, field_path, now))

    @property
    def events(self) -> list[Json]:
        """The messages that were not acknowledged yet."""
        return [
            {
                "type": "event",
                "seq": event.seq,
                "podUID": self.uid,
                "eventType": "Normal",
                "reason": event.reason,
                "message": event.message,
                "fieldPath": event.field_path,
                "timestamp": event.timestamp,
            }
            for event in self._events
        ]

    def _status_message(self) -> Json:
        status = orjson.Fragment(self._status)
        return {"type": "status", "podUID": self.uid, "status": status, "finished": self.finished}

    def _id(self, container: Json) -> str:
        digest = hashlib.sha256(f"{self.instance.instance_id}/{container['name']}".encode()).hexdigest()
        return f"simulated://{digest}"

    def stats(self, now: str) -> Json:
        """A stats sample with made-up but constant figures."""
        pod = self.pod
        assert pod is not None
        metadata = pod["metadata"]
        cpu = {"time": now, "usageNanoCores": 1_000_000, "usageCoreNanoSeconds": 1_000_000_000}
        memory = {"time": now, "usageBytes": 8 << 20, "workingSetBytes": 8 << 20, "rssBytes": 6 << 20}
        containers = pod["spec"]["containers"]
        return {
            "type": "stats",
            "podUID": self.uid,
            "timestamp": now,
            "pod": {
                "podRef": {key: metadata.get(key, "") for key in ("name", "namespace", "uid")},
                "startTime": self._running_since,
                "containers": [
                    {"name": c["name"], "startTime": self._running_since, "cpu": cpu, "memory": memory}
                    for c in containers
                ],
                "cpu": {**cpu, "usageNanoCores": 1_000_000 * len(containers)},
                "memory": {**memory, "workingSetBytes": (8 << 20) * len(containers)},
            },
            "node": {"cpu": cpu, "memory": memory},
        }


def _identity(container: Json, container_id: str) -> Json:
    image = container.get("image", "")
    requests = resource_list(container, "requests")
    return {
        "name": container["name"],
        "image": image,
        "imageID": f"simulated@sha256:{hashlib.sha256(image.encode()).hexdigest()}",
        "containerID": container_id,
        "restartCount": 0,
        "lastState": {},
        "resources": container.get("resources") or {},
        **({"allocatedResources": requests} if requests else {}),
    }


def _running(container: Json, now: str, container_id: str) -> Json:
    state = {"running": {"startedAt": now}}
    return {**_identity(container, container_id), "ready": True, "started": True, "state": state}


def _terminated(container: Json, since: str, now: str, exit_code: int, container_id: str) -> Json:
    end = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": since,
        "finishedAt": now,
        "containerID": container_id,
    }
    return {**_identity(container, container_id), "ready": False, "started": False, "state": {"terminated": end}}


def _initialized(container: Json, now: str, container_id: str, finished: bool) -> Json:
    if container.get("restartPolicy") == "Always" and not finished:
        return _running(container, now, container_id)
    return {**_terminated(container, now, now, 0, container_id), "ready": True}
