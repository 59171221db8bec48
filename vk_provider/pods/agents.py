"""What `instances` tells of pods' instances and their agents: assignments, messages, silence, loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from vk_provider import eventreasons
from vk_provider.agentclient.session import Slot
from vk_provider.errors import AgentProtocolError
from vk_provider.eventreasons import EventReason
from vk_provider.instances.demand import Claim
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.pods.agent_events import AgentEvents
from vk_provider.pods.agent_report import accept_status, keep_end
from vk_provider.pods.agent_sample import accept_stats
from vk_provider.pods.events import involved
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.naming import is_named
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import MAX_ATTEMPTS
from vk_provider.pods.tables import PodTables
from vk_provider.wire.blobs import PEERS_FEATURE
from vk_provider.wire.identity import IDENTITY_FEATURE
from vk_provider.wire.images import IMAGES_FEATURE
from vk_provider.wire.session import EventMessage, HelloMessage, StatusMessage, UpMessage

log = logging.getLogger(__name__)


class AgentSide:
    """instances.demand.PodSide over the controller's records. wake: wakes the worker of a UID."""

    def __init__(
        self,
        records: Mapping[str, PodRecord],
        executor: PodExecutor,
        tables: PodTables,
        metrics: PodMetrics,
        wake: Callable[[str], None],
    ) -> None:
        self._records = records
        self._executor = executor
        self._tables = tables
        self._metrics = metrics
        self._wake = wake
        self._events = executor.events
        self._event = executor.events.record

    def _of(self, owned: OwnedInstance) -> PodRecord | None:
        record = self._records.get(owned.pod_uid)
        return record if record is not None and record.owned is owned else None

    # --- assignment ----------------------------------------------------------------------------------------------

    def is_waiting(self, uid: str) -> bool:
        record = self._records.get(uid)
        return record is not None and record.assignment.demand is not None and record.is_wanting()

    def find_pod(self, uid: str) -> Json | None:
        record = self._records.get(uid)
        return record.pod if record is not None else None

    def on_assigned(self, uid: str, owned: OwnedInstance, message: str) -> None:
        record = self._records[uid]
        record.assignment.take(owned, message)
        self._event(record, "Normal", eventreasons.INSTANCE_LAUNCHED, f"{owned.instance_id}: {message}")
        session = owned.link.session
        if session is not None and session.hello is not None:  # it was idle, and greets no more
            self.on_connected(owned)
            self._greet(record, session.hello)
        self._wake(uid)

    def on_refused(self, uid: str, reason: EventReason, message: str) -> None:
        record = self._records.get(uid)
        if record is not None and record.is_wanting():
            self._executor.refuse(record, reason, message)
            self._wake(uid)

    def on_trouble(self, uid: str, event_type: str, reason: EventReason, message: str) -> None:
        record = self._records.get(uid)
        if record is not None and record.is_wanting():
            self._event(record, event_type, reason, message)

    def choose_store(self, uid: str, before: str) -> str:
        record = self._records.get(uid)
        return self._executor.demands.choose_again(record, before) if record is not None else ""

    def claim(self, uid: str, owned: OwnedInstance) -> Claim:
        record = self._records.get(uid)
        if record is None or not record.exists:
            return Claim.NOT_WAITING
        if not _was_given(record, owned):
            # One that has started is looked for by its status.
            waits = record.owned is None and record.is_wanting() and not record.first.started
            return Claim.UNPROVED if waits else Claim.NOT_WAITING
        former = record.owned
        if former is not None:
            # Given by tags or by a launch of this process: an agent that has the pod knows better, unless that one has
            # it, too, or may have it by now.
            is_its = not former.fresh and is_named(record, former.described)
            if former.ended or former.said_uid == uid or is_its or former.sent_uid:
                return Claim.NOT_WAITING
            record.close_events()
            record.assignment.drop()
            self._executor.room.supply.part(former)
        self._executor.give(record, owned)
        self._wake(uid)
        return Claim.TAKEN

    def on_other_pod(self, owned: OwnedInstance, uid: str) -> None:
        """Tags, or the order of a repeated call, have said something else than the agent. It is believed with proof,
        while nothing speaks against it: a pod that ran here, or was sent here, is lost. One that did neither gets
        another instance, as often as one whose instance does not boot."""
        record, other = self._of(owned), self._find_given(uid, owned)
        if record is None:
            return
        log.error("pod %s: its instance runs pod %s", record.key, uid)
        used = record.report.from_agent or record.first.started or owned.sent_uid
        if used or (other is None and record.assignment.attempt + 1 >= MAX_ATTEMPTS):
            record.lose("the instance runs another pod")
            self._wake(record.uid)
            return
        supply = self._executor.room.supply
        record.close_events()
        if other is None:
            record.assignment.start_over()
            record.report.start_over()
            supply.refuse(owned, uid)
            self._wake(record.uid)
            return
        record.assignment.drop()
        if (former := other.owned) is not None:
            other.close_events()
            other.assignment.drop()
            supply.part(former)
        supply.adopt(owned, uid, started=True)
        self._executor.give(other, owned)
        self._wake(record.uid)
        self._wake(uid)

    def _find_given(self, uid: str, owned: OwnedInstance) -> PodRecord | None:
        """The pod, if an agent whose instance another pod has may have it."""
        found = self._records.get(uid)
        if found is None or not found.exists or found.report.from_agent or not _was_given(found, owned):
            return None
        return found

    def on_marked(self, owned: OwnedInstance) -> None:
        record = self._of(owned)
        if record is not None:
            self._wake(record.uid)

    # --- sessions ------------------------------------------------------------------------------------------------

    def on_connected(self, owned: OwnedInstance) -> None:
        record = self._of(owned)
        if record is None:
            return
        self._executor.sender.begin(owned)
        if owned.fresh and not owned.link.ever_connected:
            self._metrics.agent_ready_seconds.observe(time.monotonic() - record.bound_at)
        self._wake(record.uid)

    def on_disconnected(self, owned: OwnedInstance) -> None:
        """The agent counts as silent until its next message, not only until it is connected."""
        self._tables.close(owned.tables)
        record = self._of(owned)
        if record is None:
            return
        self._executor.demands.peers.leave(record)
        if record.exists and record.has_instance and not record.report.finished:
            record.report.fall_silent(time.monotonic())
            self._wake(record.uid)

    def on_violation(self, owned: OwnedInstance, message: str) -> None:
        """The session is closed and dialed again later."""
        record = self._of(owned)
        if record is not None:
            self._event(record, "Warning", eventreasons.AGENT_PROTOCOL_ERROR, message)

    def on_fate(self, owned: OwnedInstance) -> None:
        record = self._of(owned)
        if record is not None:
            self._wake(record.uid)

    def on_interruption(self, owned: OwnedInstance, message: str) -> None:
        record = self._of(owned)
        if record is not None:
            self._event(record, "Warning", eventreasons.INSTANCE_INTERRUPTED, message)

    # --- messages ------------------------------------------------------------------------------------------------

    def on_message(self, owned: OwnedInstance, message: UpMessage) -> None:
        record = self._of(owned)
        if record is not None:
            self.receive(record, message)

    def receive(self, record: PodRecord, message: UpMessage) -> None:
        """Handle an agent's message. Raises AgentProtocolError for a sample beyond the instance's capacity, and for
        images, blobs or tokens that were not to be expected."""
        if message["type"] == "hello":
            self._greet(record, message)
            self._wake(record.uid)  # the pod can be sent
        elif message["type"] == "tables":
            self._tables.receive(record, message)
        elif message["type"] == "notice":
            return  # of the instance, not of its pod: the room for the instances has taken it
        elif message["podUID"] != record.uid:
            return  # about another pod of this instance, which `on_other_pod` has logged
        elif message["type"] == "status":
            self._take_status(record, message)
        elif message["type"] == "event":
            self._relay_event(record, message)
        elif message["type"] == "blobs":
            if record.session is not None and not record.session.has(PEERS_FEATURE):
                raise AgentProtocolError("the agent tells blobs without having named that feature")
            self._executor.demands.peers.receive(record, message)
        elif message["type"] == "identity":
            if record.session is not None and not record.session.has(IDENTITY_FEATURE):
                raise AgentProtocolError("the agent tells tokens without having named that feature")
            self._executor.demands.identities.receive(record, message)
        elif message["type"] == "images":
            if record.session is not None and not record.session.has(IMAGES_FEATURE):
                raise AgentProtocolError("the agent tells images without having named that feature")
            self._executor.demands.images.receive(record, message)
        elif record.instance is not None:
            capacity = self._executor.room.capacity_of(record.instance)
            record.report.sample(accept_stats(message, record.pod, record.instance, *capacity, time.time()))

    def _greet(self, record: PodRecord, hello: HelloMessage) -> None:
        self._tables.greet(record, hello)
        if PEERS_FEATURE in hello.get("features", ()):
            self._executor.demands.peers.greet(record)

    def _take_status(self, record: PodRecord, message: StatusMessage) -> None:
        report, owned = record.report, record.owned
        if report.concluded or (owned is not None and owned.ended):
            return
        self._note_heard(record)
        status = accept_status(message["status"], record.pod, record.instance)
        if report.from_agent:
            status = keep_end(status, report.status)
        if report.status == status and report.finished == message["finished"]:
            return
        report.take(status, finished=message["finished"])
        record.publication.set_restoring(False)
        self._wake(record.uid)

    def _note_heard(self, record: PodRecord) -> None:
        """The agent is heard: its Ready condition is published again."""
        if record.report.hear() and record.instance is not None:
            message = f"the agent on instance {record.instance.instance_id} answers again"
            self._event(record, "Normal", eventreasons.AGENT_REACHABLE, message)
            self._wake(record.uid)

    def _relay_event(self, record: PodRecord, message: EventMessage) -> None:
        events = record.open_events(lambda: AgentEvents(self._events.recorder, partial(_acknowledge, record)))
        events.relay.receive(involved(record.pod), record.node, message)


def _acknowledge(record: PodRecord, seq: int) -> None:
    if record.session is not None:
        record.session.put(Slot.ACK, {"type": "ack", "seq": seq})


def _was_given(record: PodRecord, owned: OwnedInstance) -> bool:
    """Whether the provider has given the instance to the pod, by what its agent cannot forge."""
    return owned.proves(record.uid, record.namespace, record.node) or is_named(record, owned.described)
