"""The worker's state of its pod beyond the runtime: messages, the last status, failures; survives in the journal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.worker.rules.backoff import BackoffTable
from vk_provider.agent.worker.rules.resize import desired_pod_resources, desired_resources, with_allocated
from vk_provider.agent.worker.rules.restarts import Restarts
from vk_provider.agent.worker.rules.spec import (
    has_ended_in_api,
    is_deleted,
    is_host_network,
    uid_of,
    with_local_annotations,
)
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.quantity import ceil_int
from vk_provider.podmodel.status import PodEnd
from vk_provider.rfc3339 import format_nanos, format_time
from vk_provider.wire.session import NodeFacts, PodMessage, References, StopMessage


@dataclass(slots=True)
class ResizeMemory:
    """The resources of the containers by name, and those at pod level, while they are changed in place (KEP-1287).

    allocated:  that the instance has admitted
    actuated:   that the runtime was given last; actuated_pod: of the pod's cgroup
    conditions: PodResizePending, PodResizeInProgress
    """

    allocated: dict[str, Json] = field(default_factory=dict)
    allocated_pod: Json = field(default_factory=dict)
    actuated: dict[str, Json] = field(default_factory=dict)
    actuated_pod: Json = field(default_factory=dict)
    conditions: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class PodMemory:
    """State of one pod.

    services:       for the environment of containers that are created, newest; None while they are not known
    api_pod:        the newest Pod object with the kubelet's own annotations; `pod` is the same with the resources that
                    were allocated
    taken:          `pod` as the pass under way, or the last one, took it: the status speaks of it (not kept)
    first_seen:     when the pod was seen first (kubernetes.io/config.seen)
    end:            why the pod fails regardless of its containers
    grace_override_s: grace period that a stop from outside or an eviction gives
    status:         the last computed PodStatus
    failures:       container name -> (reason, message) of its last start that failed
    starting:       IDs of containers whose postStart hook still runs (not kept)
    restarts:       containers that the pass under way starts again (not kept)
    volumes_ready:  volumes are set up (not kept: set-up is idempotent and repeated after a restart)
    recovered:      read from the journal: `status` and `finished` are those sent last (not kept)
    stopped:        all containers have ended for good and the sandbox is stopped
    finished:       nothing of the pod is left on the instance
    """

    api_pod: Json
    references: References
    node: NodeFacts
    services: list[Json] | None = None
    first_seen: str = ""
    resize: ResizeMemory = field(default_factory=ResizeMemory)
    stop: StopMessage | None = None
    end: PodEnd | None = None
    grace_override_s: int | None = None
    status: Json = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    back_off: BackoffTable = field(default_factory=BackoffTable)
    starting: set[str] = field(default_factory=set)
    restarts: Restarts = field(default_factory=Restarts)
    taken: Json = field(default_factory=dict)
    volumes_ready: bool = False
    restarting_all: bool = False
    recovered: bool = False
    stopped: bool = False
    finished: bool = False

    @classmethod
    def from_message(cls, message: PodMessage) -> PodMemory:
        """A pod that is seen for the first time: its startTime is now, unless the API knows one."""
        pod, first_seen = message["pod"], format_nanos(time.time_ns())
        memory = cls(
            api_pod=with_local_annotations(pod, first_seen),
            references=message["references"],
            node=message["node"],
            services=services_of(message),
            first_seen=first_seen,
            resize=ResizeMemory(desired_resources(pod), desired_pod_resources(pod), {}, desired_pod_resources(pod)),
            status={"startTime": format_time(), **(pod.get("status") or {})},
        )
        memory.take_pod()
        return memory

    @property
    def uid(self) -> str:
        return uid_of(self.api_pod)

    @property
    def pod(self) -> Json:
        return with_allocated(self.api_pod, self.resize.allocated, self.resize.allocated_pod)

    def replace_pod(self, pod: Json) -> None:
        """Take over a newer Pod object of the API."""
        self.api_pod = with_local_annotations(pod, self.first_seen)

    def take_services(self, services: list[Json]) -> bool:
        """Take over the newest Services; return whether a container may have waited for them.

        A kubelet makes no pass when a Service changes: it reads its lister when it makes a container's environment
        (kubelet_pods.go makeEnvironmentVariables). A pass more would call readiness probes and send a status.
        """
        waited, self.services = self.services is None, services
        return waited

    def take_pod(self) -> bool:
        """A pass begins, with the pod as it is now; return whether that is another one than before.

        As with a kubelet, a change of the spec shows in the status (its observedGeneration, too) when a pass has begun
        with it: not during one that pulls an image, waits for a volume or stops containers, and never after the end.
        """
        before, self.taken = self.taken, self.pod
        return self.taken != before

    @property
    def must_stop(self) -> bool:
        """As UpdatePod of the kubelet's pod workers: a terminal phase in the API ends the pod too."""
        asked = is_deleted(self.api_pod) or has_ended_in_api(self.api_pod)
        return asked or self.stop is not None or self.end is not None

    @property
    def memory_capacity_bytes(self) -> int:
        return ceil_int((self.node.get("allocatable") or {}).get("memory") or 0)

    def context(self, facts: InstanceFacts) -> PodContext:
        host_ips = facts.host_ips
        own = host_ips if is_host_network(self.api_pod) else facts.pod_ips
        return PodContext(pod_ips=own, host_ips=host_ips, node=self.node)

    def apply_stop(self, stop: StopMessage) -> None:
        """Take over a stop; a reason makes the pod Failed, the shortest grace period counts."""
        self.stop = stop
        grace = int(stop["gracePeriodSeconds"])
        self.grace_override_s = grace if self.grace_override_s is None else min(grace, self.grace_override_s)
        if stop.get("reason") and self.end is None:
            disruption = stop["reason"] == "Evicted" or bool(stop.get("disruption"))
            self.end = PodEnd(stop["reason"], stop.get("message") or "", disruption=disruption)

    def to_document(self) -> Json:
        """JSON for the journal."""
        return {
            "message": {
                "type": "pod",
                "pod": self.api_pod,
                "references": self.references,
                "services": self.services,
                "node": self.node,
            },
            "firstSeen": self.first_seen,
            "allocated": self.resize.allocated,
            "allocatedPod": self.resize.allocated_pod,
            "actuated": self.resize.actuated,
            "actuatedPod": self.resize.actuated_pod,
            "resizeConditions": self.resize.conditions,
            "stop": self.stop,
            "end": [self.end.reason, self.end.message, self.end.disruption] if self.end else None,
            "graceOverrideSeconds": self.grace_override_s,
            "status": self.status,
            "failures": self.failures,
            "backOff": self.back_off.to_document(),
            "restartingAll": self.restarting_all,
            "stopped": self.stopped,
            "finished": self.finished,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PodMemory | None:
        """None when the journal holds no pod."""
        message = document.get("message")
        if not message:
            return None
        memory = cls.from_message(cast(PodMessage, message))
        memory.first_seen = document.get("firstSeen") or memory.first_seen
        memory.replace_pod(memory.api_pod)
        memory.resize.allocated = document.get("allocated") or memory.resize.allocated
        memory.resize.allocated_pod = document.get("allocatedPod", memory.resize.allocated_pod)
        memory.resize.actuated = document.get("actuated") or {}
        memory.resize.actuated_pod = document.get("actuatedPod", memory.resize.actuated_pod)
        memory.resize.conditions = document.get("resizeConditions") or []
        memory.stop = document.get("stop")
        end = document.get("end")
        memory.end = PodEnd(end[0], end[1], bool(end[2])) if end else None
        memory.grace_override_s = document.get("graceOverrideSeconds")
        memory.status = document.get("status") or memory.status
        memory.failures = {name: (str(f[0]), str(f[1])) for name, f in (document.get("failures") or {}).items()}
        memory.back_off.load_document(document.get("backOff") or {})
        memory.restarting_all = bool(document.get("restartingAll"))
        memory.stopped = bool(document.get("stopped"))
        memory.finished = bool(document.get("finished"))
        memory.recovered = True
        memory.take_pod()
        return memory


def services_of(message: PodMessage) -> list[Json] | None:
    """An earlier provider sends them within the references."""
    services = message.get("services")
    return services if services is not None else message["references"].get("services")
