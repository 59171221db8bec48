"""Carries out the actions of `reconcile`, one method each."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from vk_provider import eventreasons
from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.cloud.base import Cloud
from vk_provider.errors import AgentError, KubeApiError
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kube.references import ReferenceStore
from vk_provider.podmodel.labels import Selector
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.admission import NodeUsage, admit, hold_by_policy
from vk_provider.pods.archive import LogArchive, UnsafeNameError
from vk_provider.pods.launcher import LaunchRefusedError, PodLauncher
from vk_provider.pods.launching import LaunchTasks
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.provider_status import (
    build_lost_status,
    build_pending_status,
    build_rejected_status,
    build_unready_condition,
    build_unstarted_status,
)
from vk_provider.pods.reconcile import Action
from vk_provider.pods.record import PodRecord
from vk_provider.pods.resolution import ReferenceResolver, references_for, unread_references
from vk_provider.pods.state import compute_fingerprint
from vk_provider.pods.status_publisher import StatusPublisher, note_held
from vk_provider.pods.termination import InstanceTerminator
from vk_provider.rfc3339 import format_time
from vk_provider.wire.session import SERVICES_FEATURE

log = logging.getLogger(__name__)


COMPONENT = "vk-provider"
"""Source of events that no kubelet has. Those of the agent are a kubelet's, with the limits of one source (correlator):
none of them is dropped because of what the provider says about the instance."""
PENDING_AFTER_SENT_S = 1.0
"""A pod that was given to its agent just now says Pending no sooner."""
ARCHIVE_TRIES = 2
READERS_LIMIT_S = 5.0


class PodExecutor:
    """One method per Action; each returns when it is done, or raises and is retried by the worker."""

    def __init__(
        self,
        *,
        client: KubeClient,
        cloud: Cloud,
        connector: AgentConnector,
        references: ReferenceStore,
        recorder: EventRecorder,
        archive: LogArchive,
        launcher: PodLauncher,
        metrics: PodMetrics,
        terminator: InstanceTerminator,
        nodes: Callable[[str], Json | None],
        node_facts: Callable[[PodRecord], Json],
        wake: Callable[[str], None],
        connect: Callable[[PodRecord], None],
        forget: Callable[[PodRecord], None],
        features: frozenset[str],
        daemonsets: Selector | None,
    ) -> None:
        self._client = client
        self._connector = connector
        self._resolver = ReferenceResolver(references, wake)
        self._publisher = StatusPublisher(client, metrics, self.event)
        self.terminator = terminator
        self._launches = LaunchTasks(launcher, cloud, self.event, self._launch_refused, self._end_instance, wake)
        self._recorder = recorder
        self._archive = archive
        self._launcher = launcher
        self._metrics = metrics
        self._nodes = nodes
        self._node_facts = node_facts
        self._wake = wake
        self._connect = connect
        self._forget = forget
        self._features = features
        self._daemonsets = daemonsets
        self.usage: dict[str, NodeUsage] = {}
        self._apply: Mapping[Action, Callable[[PodRecord], Awaitable[None]]] = {
            Action.ADMIT: self.admit,
            Action.LAUNCH: self.launch,
            Action.CONNECT: self.connect,
            Action.SEND: self.send,
            Action.MARK_NOT_READY: self.mark_not_ready,
            Action.PUBLISH: self.publish,
            Action.PUBLISH_PENDING: self.publish_pending,
            Action.FAIL_NEVER_STARTED: self.fail_never_started,
            Action.FAIL_LOST: self.fail_lost,
            Action.RELAUNCH: self.relaunch,
            Action.STOP: self.stop,
            Action.ARCHIVE: self.archive,
            Action.DELETE: self.delete,
            Action.TERMINATE: self.terminate,
            Action.FORGET: self.forget,
        }

    async def apply(self, action: Action, record: PodRecord) -> None:
        await self._apply[action](record)

    def event(
        self, record: PodRecord, event_type: str, reason: EventReason, message: str, component: str = COMPONENT
    ) -> None:
        """Record an event on the pod; component: its source."""
        self._recorder.record(involved(record.pod), event_type, reason, message, host=record.node, component=component)

    def knows_node(self, name: str) -> bool:
        """Whether the Node was read or registered: without its labels and capacity no pod is refused."""
        return self._nodes(name) is not None

    async def admit(self, record: PodRecord) -> None:
        node = self._nodes(record.node)
        if node is None:
            return  # the Node was just deleted: no pod is refused for lack of it
        verdict = hold_by_policy(record.pod, self._daemonsets)
        if verdict is None:
            usage = self.usage.setdefault(record.node, NodeUsage())
            verdict = admit(record.pod, node, usage, self._features)
        record.admitted = True
        if verdict is None:
            return
        # A kubelet refuses, too (rejectPod); it leaves no pod Pending by policy.
        self.event(record, "Warning", verdict.reason, verdict.message, "kubelet" if verdict.refuse else COMPONENT)
        if verdict.refuse:
            self._reject(record, verdict.reason, verdict.message)
        else:
            record.hold = verdict.reason

    def _reject(self, record: PodRecord, reason: str, message: str) -> None:
        self._conclude(record, build_rejected_status(record.pod, reason, message, record.start_time))

    def _conclude(self, record: PodRecord, status: Json) -> None:
        """Set a terminal provider status. What the API holds already is compared with it: a rejected pod loses the
        condition of its scheduling, as with a kubelet (rejectPod, mergePodStatus)."""
        if record.published is None:
            note_held(record, record.pod)
        record.status, record.finished, record.concluded = status, True, True
        record.restoring = False

    async def launch(self, record: PodRecord) -> None:
        """Start the launch task, which wakes the worker when it is done."""
        self._launches.start(record)

    def _launch_refused(self, record: PodRecord, refusal: LaunchRefusedError) -> None:
        self.event(record, "Warning", refusal.reason, str(refusal))
        self._reject(record, refusal.reason, str(refusal))

    async def connect(self, record: PodRecord) -> None:
        self._resolver.start(record)  # while the instance boots; `send` then finds them in memory
        self._connect(record)

    async def send(self, record: PodRecord) -> None:
        """Send the whole desired state over the session; the agent compares.

        Waits for the agent's greeting, which says what it can do, and for references that are being read, unless the
        pod is terminating.
        """
        session = record.session
        if session is None or session.hello is None:
            return
        fingerprint = compute_fingerprint(record)
        if record.sent_fingerprint == fingerprint and record.resolving is None and not record.references_changed:
            self._send_services(record, session)
            return
        references = self._resolver.take(record)
        if references is None:
            if not (record.deleting or record.first_ended is not None) or record.sent_fingerprint == fingerprint:
                return
            references = record.sent_references or unread_references(record.pod)
        if record.sent_fingerprint != fingerprint:
            record.sent_services = self._resolver.services(record)
            message = {
                "type": "pod",
                "pod": _pod_of_agent(record),
                **references_for(session, references, record.sent_services),
                "node": self._node_facts(record),
            }
            session.put(Slot.POD, message)
            # The agent answers in a moment: its own status makes a Pending one unnecessary.
            record.pending_due = max(record.pending_due, time.monotonic() + PENDING_AFTER_SENT_S)
        elif references != record.sent_references:
            kept = references_for(session, references, record.sent_services)["references"]
            session.put(Slot.REFERENCES, {"type": "references", "references": kept})
        record.sent_fingerprint, record.sent_references = fingerprint, references
        self._send_services(record, session)

    def _send_services(self, record: PodRecord, session: AgentSession) -> None:
        """Services that have changed since the pod was sent."""
        services = self._resolver.services(record) if record.services_changed else record.sent_services
        if services is None or services == record.sent_services:
            return
        record.sent_services = services
        if session.has(SERVICES_FEATURE):
            session.put(Slot.SERVICES, {"type": "services", "services": services})
        else:
            kept = references_for(session, record.sent_references or {}, services)["references"]
            session.put(Slot.REFERENCES, {"type": "references", "references": kept})

    async def mark_not_ready(self, record: PodRecord) -> None:
        """Set Ready to False, as the controller manager does for the pods of a Node whose kubelet is silent, so that
        Services exclude the pod. The agent's next status takes it back."""
        if not record.silent_since or record.instance is None:
            return
        since = format_time(time.time() - (time.monotonic() - record.silent_since))
        message = f"the agent on instance {record.instance.instance_id} is not reachable since {since}"
        record.restoring = False
        record.not_ready = build_unready_condition(record.pod, message, format_time())
        log.warning("pod %s: %s", record.key, message)
        self.event(record, "Warning", eventreasons.AGENT_UNREACHABLE, message)

    async def publish(self, record: PodRecord) -> None:
        await self._publisher.publish(record)

    async def publish_pending(self, record: PodRecord) -> None:
        instance = record.instance
        host_ips, pod_ips = (instance.host_ips, instance.pod_ips) if instance else ((), ())
        if record.status is None:  # else the agent has sent one
            if record.api_phase in TERMINAL_PHASES:
                note_held(record, record.pod)  # its reason and message go with the phase that another writer has set
            record.status = build_pending_status(record.pod, record.start_time, host_ips, pod_ips, format_time())
        await self.publish(record)

    async def fail_never_started(self, record: PodRecord) -> None:
        self._conclude(record, build_unstarted_status(record.pod, record.status, record.start_time, format_time()))

    async def fail_lost(self, record: PodRecord) -> None:
        message = record.lost or record.boot_failed
        reason = eventreasons.INSTANCE_TERMINATED if record.lost else eventreasons.INSTANCE_BOOT_FAILED
        self.event(record, "Warning", reason, message)
        self._conclude(record, build_lost_status(record.pod, record.status, reason, message, format_time()))
        if record.instance is not None and not record.has_instance:
            self._connector.forget(record.instance.instance_id)

    async def relaunch(self, record: PodRecord) -> None:
        """Launch another instance: the first one never booted, so nothing of the pod has run."""
        self.event(
            record, "Warning", eventreasons.INSTANCE_BOOT_FAILED, f"{record.boot_failed}; launching another instance"
        )
        await self.terminate(record)
        record.instance, record.terminated, record.connection = None, False, None
        record.boot_failed, record.ever_connected = "", False
        record.sent_fingerprint, record.sent_references, record.sent_services = None, None, None
        record.close_event_relay()
        record.handover_unknown, record.silent_since, record.not_ready = False, 0.0, None
        record.attempt += 1

    async def stop(self, record: PodRecord) -> None:
        """Stop a pod whose API object is gone, with a grace period of 1 s as in a kubelet."""
        record.stop_sent_at = time.monotonic()
        if record.session is not None:
            record.session.put(
                Slot.STOP,
                {"type": "stop", "gracePeriodSeconds": 1, "reason": "Killing", "message": "pod object is gone"},
            )

    async def archive(self, record: PodRecord) -> None:
        """Archive the logs before the instance is terminated; after ARCHIVE_TRIES record an event and go on, as the
        instance costs money."""
        if record.instance is None:
            return
        status = record.status or record.pod.get("status") or {}
        try:
            await self._archive.fetch(record.pod, status, record.instance, self._connector)
            record.archived = True
        except (AgentError, OSError, UnsafeNameError) as error:
            record.archive_tries += 1
            if record.archive_tries < ARCHIVE_TRIES:
                raise
            record.archived = True
            self.event(record, "Warning", eventreasons.FAILED_LOG_ARCHIVE, f"logs could not be kept: {error}")

    async def delete(self, record: PodRecord) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": record.uid}}
        try:
            await self._client.delete(pod_path(record.namespace, record.name), body)
        except KubeApiError as error:
            if not (error.is_not_found or error.is_other_uid):
                raise
        record.api_deleted = True

    async def terminate(self, record: PodRecord) -> None:
        """One try; an instance that cannot be terminated is retried in the background and delays no pod."""
        if record.connection is not None:
            record.connection.cancel()
            record.connection = None
        instance = record.instance
        if instance is None or record.terminated:
            return
        await self._connector.drain(instance.instance_id, READERS_LIMIT_S)
        accepted = await self._end_instance(record, instance.instance_id)
        record.terminated = True
        self._metrics.terminations.labels("pod-ended" if accepted else "failed").inc()

    async def _end_instance(self, record: PodRecord, instance_id: str) -> bool:
        accepted = await self.terminator.end(
            instance_id, lambda message: self.event(record, "Warning", eventreasons.FAILED_TERMINATE, message)
        )
        self._connector.forget(instance_id)
        return accepted

    async def forget(self, record: PodRecord) -> None:
        self._resolver.release(record)
        self._forget(record)
        await self._archive.remove(record.uid)

    def count_usage(self, record: PodRecord) -> None:
        """Count a pod, which an earlier process has admitted, against its Node."""
        if record.exists:
            self.usage.setdefault(record.node, NodeUsage()).add(record.pod)

    def release(self, record: PodRecord) -> None:
        """The pod is terminal: free its capacity on the Node, and stop following its references."""
        self.release_usage(record)
        if not record.has_instance:
            self._resolver.release(record)

    def release_usage(self, record: PodRecord) -> None:
        """Stop counting the pod against its Node."""
        usage = self.usage.get(record.node)
        if usage is not None:
            usage.remove(record.uid)

    async def close(self) -> None:
        await self._launches.close()
        await self._launcher.close()
        await self.terminator.close()


def _pod_of_agent(record: PodRecord) -> Json:
    """The API's pod as it is sent to its agent: a terminal phase, which would end it, only if it was there at first."""
    status: Json = {**(record.pod.get("status") or {}), "startTime": record.start_time}
    if record.first_ended is not None:
        status |= record.first_ended
    elif record.api_phase in TERMINAL_PHASES and record.phase != record.api_phase:
        status = {name: value for name, value in status.items() if name not in ("reason", "message")}
        status["phase"] = record.phase
    return {**record.pod, "status": status}


def involved(pod: Json) -> Json:
    """involvedObject of an event about the pod."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
