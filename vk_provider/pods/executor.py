"""Carries out the actions of `reconcile`, one method each."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.agentclient.base import AgentConnector
from vk_provider.errors import AgentError
from vk_provider.eventreasons import EventReason
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import node_path
from vk_provider.podmodel.conditions import find_end
from vk_provider.podmodel.deadline import DEADLINE_EXCEEDED, DEADLINE_MESSAGE
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.agent_events import COMPONENT
from vk_provider.pods.archive import LogArchive, UnsafeNameError
from vk_provider.pods.deletion import FinalDelete
from vk_provider.pods.demands import PodDemands
from vk_provider.pods.events import PodEvents
from vk_provider.pods.gate import AdmissionGate
from vk_provider.pods.provider_status import (
    build_expired_status,
    build_lost_status,
    build_pending_status,
    build_rejected_status,
    build_terminated_status,
    build_unready_condition,
    build_unstarted_status,
)
from vk_provider.pods.reconcile import Action
from vk_provider.pods.record import PodRecord
from vk_provider.pods.sending import PodSender
from vk_provider.pods.state import is_expired, is_given, known_status
from vk_provider.pods.status_publisher import StatusPublisher, note_held
from vk_provider.pods.unlocated import has_ended
from vk_provider.rfc3339 import format_time

log = logging.getLogger(__name__)

ARCHIVE_TRIES = 2


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The ways to the API server: statuses, events, the final DELETE."""

    client: KubeClient
    publisher: StatusPublisher
    events: PodEvents


@dataclass(frozen=True, slots=True)
class Logs:
    """Where the logs of ended pods are kept, and the way to fetch them."""

    archive: LogArchive
    connector: AgentConnector


class PodExecutor:
    """One method per Action; each returns when it is done, or raises and is retried by the worker.

    forget: removes the record
    """

    def __init__(
        self,
        api: ApiServer,
        gate: AdmissionGate,
        demands: PodDemands,
        sender: PodSender,
        logs: Logs,
        forget: Callable[[PodRecord], None],
    ) -> None:
        self._api = api
        self.gate = gate
        self.demands, self.room = demands, demands.room
        self.sender = sender
        self._logs = logs
        self._forget = forget
        self._event, self._delete = api.events.record, FinalDelete(api.client)
        self._apply: Mapping[Action, Callable[[PodRecord], Awaitable[None]]] = {
            Action.ADMIT: self.admit,
            Action.LAUNCH: self.launch,
            Action.CONNECT: self.connect,
            Action.SEND: self.send,
            Action.MARK_NOT_READY: self.mark_not_ready,
            Action.PUBLISH: self.publish,
            Action.PUBLISH_PENDING: self.publish_pending,
            Action.FAIL_NEVER_STARTED: self.fail_never_started,
            Action.FAIL_EXPIRED: self.fail_expired,
            Action.FAIL_LOST: self.fail_lost,
            Action.TELL_ENDS: self.tell_ends,
            Action.RELAUNCH: self.relaunch,
            Action.STOP: self.stop,
            Action.ARCHIVE: self.archive,
            Action.DELETE: self.delete,
            Action.TERMINATE: self.terminate,
            Action.FORGET: self.forget,
        }

    @property
    def events(self) -> PodEvents:
        return self._api.events

    async def apply(self, action: Action, record: PodRecord) -> None:
        await self._apply[action](record)

    async def admit(self, record: PodRecord) -> None:
        if not self.gate.knows_node(record.node):
            return  # the Node was just deleted: no pod is refused for lack of it
        verdict = self.gate.judge(record)
        if verdict is not None and verdict.reason == eventreasons.NODE_AFFINITY:
            # The scheduler may have seen a label before this Node's own watch (predicate.go, generalFilter).
            verdict = self.gate.judge(record, await self._api.client.get(node_path(record.node)))
        if verdict is None:
            record.admission.admit(record.admission.hold)
            return
        # A kubelet refuses, too (rejectPod); it leaves no pod Pending by policy.
        self._event(record, "Warning", verdict.reason, verdict.message, "kubelet" if verdict.refuse else COMPONENT)
        record.admission.admit("" if verdict.refuse else verdict.reason)
        if verdict.refuse:
            self.reject(record, verdict.reason, verdict.message)

    def refuse(self, record: PodRecord, reason: EventReason, message: str) -> None:
        """No instance will ever be had for the pod."""
        record.assignment.give_up()
        self._event(record, "Warning", reason, message)
        self.reject(record, reason, message)

    def reject(self, record: PodRecord, reason: str, message: str) -> None:
        self._conclude(record, build_rejected_status(record.pod, reason, message, record.start_time))

    def _conclude(self, record: PodRecord, status: Json) -> None:
        """Set a terminal provider status. What the API holds already is compared with it: a rejected pod loses the
        condition of its scheduling, as with a kubelet (rejectPod, mergePodStatus)."""
        if record.publication.held is None:
            note_held(record, record.pod)
        record.report.conclude(status)
        record.publication.set_restoring(False)
        self.demands.withdraw(record)

    async def launch(self, record: PodRecord) -> None:
        """Wait for an instance: agents.AgentSide is told of it, and wakes the worker."""
        self.demands.join(record)

    def give(self, record: PodRecord, owned: OwnedInstance) -> None:
        """An instance that an earlier process has given to the pod."""
        self.demands.withdraw(record)
        record.admission.admit()
        record.assignment.take(owned)
        if record.first.ended is None:
            self.gate.count(record)

    async def connect(self, record: PodRecord) -> None:
        self.sender.read(record)  # while the instance boots; `send` then finds them in memory
        owned = record.owned
        if owned is not None:
            if owned.has_booted:
                record.report.fall_silent(time.monotonic())
            self.room.links.open(owned)

    async def send(self, record: PodRecord) -> None:
        self.sender.send(record)

    async def mark_not_ready(self, record: PodRecord) -> None:
        """Set Ready to False, as the controller manager does for the pods of a Node whose kubelet is silent, so that
        Services exclude the pod. The agent's next status takes it back."""
        if not record.report.silent_since or record.instance is None:
            return
        since = format_time(time.time() - (time.monotonic() - record.report.silent_since))
        message = f"the agent on instance {record.instance.instance_id} is not reachable since {since}"
        record.publication.set_restoring(False)
        record.report.doubt(build_unready_condition(record.pod, message, format_time()))
        log.warning("pod %s: %s", record.key, message)
        self._event(record, "Warning", eventreasons.AGENT_UNREACHABLE, message)

    async def publish(self, record: PodRecord) -> None:
        await self._api.publisher.publish(record)

    async def publish_pending(self, record: PodRecord) -> None:
        instance = record.instance
        host_ips, pod_ips = (instance.host_ips, instance.pod_ips) if instance else ((), ())
        if record.report.status is None:  # else the agent has sent one
            if record.api_phase in TERMINAL_PHASES:
                note_held(record, record.pod)  # its reason and message go with the phase that another writer has set
            pending = build_pending_status(record.pod, record.start_time, host_ips, pod_ips, format_time())
            record.report.provide(pending)
        await self.publish(record)

    async def fail_never_started(self, record: PodRecord) -> None:
        known, start, hosts = record.report.status, record.start_time, self._host_ips(record)
        expired = self._tell_expired(record)
        self._conclude(record, build_unstarted_status(record.pod, known, start, hosts, format_time(), expired=expired))

    async def fail_expired(self, record: PodRecord) -> None:
        self._tell_expired(record)
        record.leaving.archived = True  # nothing of the pod has run
        hosts = self._host_ips(record)
        self._conclude(record, build_expired_status(record.pod, record.start_time, hosts, format_time()))

    def _tell_expired(self, record: PodRecord) -> bool:
        """Whether the pod is past its deadline, of which there is an event then (ShouldEvict)."""
        expired = is_expired(record, time.monotonic())
        if expired:
            self._event(record, "Normal", eventreasons.DEADLINE_EXCEEDED, DEADLINE_MESSAGE, "kubelet")
        return expired

    async def fail_lost(self, record: PodRecord) -> None:
        lost = record.loss
        if record.deleting and has_ended(record.pod, record.report.status or record.pod.get("status") or {}):
            await self.fail_never_started(record)  # nothing was lost with the instance
            return
        message = lost or record.boot_failed
        reason = eventreasons.INSTANCE_TERMINATED if lost else eventreasons.INSTANCE_BOOT_FAILED
        self._event(record, "Warning", reason, message)
        self._conclude(record, build_lost_status(record.pod, record.report.status, reason, message, format_time()))
        if record.owned is not None and not record.has_instance:
            self.room.forget_lost(record.owned)

    async def tell_ends(self, record: PodRecord) -> None:
        """Give each container an end: of a pod that was rejected and is deleted or past its deadline, or that had ended
        when it was first seen."""
        last = known_status(record)
        known = {**last, **(record.first.ended or find_end(last) or {})}
        if self._tell_expired(record):
            known |= {"reason": DEADLINE_EXCEEDED, "message": DEADLINE_MESSAGE}
        hosts = self._host_ips(record)
        self._conclude(record, build_terminated_status(record.pod, known, record.start_time, hosts, format_time()))

    def _host_ips(self, record: PodRecord) -> tuple[str, ...]:
        """Of a pod that ends without an instance, those of its Node. None of one whose instance another pod may get."""
        return self.gate.host_ips(record.node) if record.instance is None else ()

    async def relaunch(self, record: PodRecord) -> None:
        """Launch another instance: the first one never booted, so nothing of the pod has run."""
        text = f"{record.boot_failed}; launching another instance"
        self._event(record, "Warning", eventreasons.INSTANCE_BOOT_FAILED, text)
        await self._end(record, "boot-failed")
        record.assignment.start_over()
        record.report.start_over()
        record.close_events()

    async def stop(self, record: PodRecord) -> None:
        record.leaving.stop_sent_at = time.monotonic()
        self.sender.stop(record)

    async def archive(self, record: PodRecord) -> None:
        """Archive the logs before the instance is terminated; after ARCHIVE_TRIES record an event and go on, as the
        instance costs money."""
        if record.instance is None:
            return
        status = record.report.status or record.pod.get("status") or {}
        leaving = record.leaving
        try:
            await self._logs.archive.fetch(record.pod, status, record.instance, self._logs.connector)
            leaving.archived = True
        except (AgentError, OSError, UnsafeNameError) as error:
            leaving.archive_tries += 1
            if leaving.archive_tries < ARCHIVE_TRIES:
                raise
            leaving.archived = True
            self._event(record, "Warning", eventreasons.FAILED_LOG_ARCHIVE, f"logs could not be kept: {error}")

    async def delete(self, record: PodRecord) -> None:
        await self._delete.send(record)

    async def terminate(self, record: PodRecord) -> None:
        """One try; an instance that cannot be terminated is retried in the background and delays no pod. One that the
        pod has not used may be of use to another."""
        owned = record.owned
        if owned is not None and not is_given(record) and self.room.supply.give_back(owned):
            record.close_events()
            record.assignment.drop()
            return
        await self._end(record, "pod-ended")

    async def _end(self, record: PodRecord, why: str) -> None:
        owned = record.owned
        if owned is None or owned.ended:
            return
        await self.room.end(owned, why, self._api.events.warn_later(record, eventreasons.FAILED_TERMINATE))

    async def forget(self, record: PodRecord) -> None:
        self.demands.leave(record)
        self._forget_lost(record)
        self.sender.release(record)
        self._forget(record)
        await self._logs.archive.remove(record.uid)

    def release(self, record: PodRecord) -> None:
        """The pod is terminal: free its capacity on the Node, and stop following its references."""
        self.gate.release(record)
        if not record.has_instance:
            self.sender.release(record)
            self._forget_lost(record)

    def _forget_lost(self, record: PodRecord) -> None:
        """An instance that was not asked to end has ended by itself."""
        if record.owned is not None and not record.owned.ended:
            self.room.forget_lost(record.owned)
