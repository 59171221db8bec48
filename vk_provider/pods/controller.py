"""The pod controller: receives watch events and agents' messages, and runs one worker per pod UID.

load (the record) -> decide (`reconcile`) -> apply (`executor`). After a restart `adopt` joins the cloud's instances
with the API server's pods; no other state is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from vk_provider import eventreasons
from vk_provider.agentclient.session import Slot
from vk_provider.aiokit.batch import Batcher
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.workers import KeyedWorkers
from vk_provider.cloud.base import Cloud, Instance
from vk_provider.errors import AgentProtocolError, CloudError
from vk_provider.jsontypes import Json
from vk_provider.kube.recorder import EventRecorder
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods import missing
from vk_provider.pods.adoption import Adoption
from vk_provider.pods.agent_events import AgentEventRelay
from vk_provider.pods.agent_report import accept_stats, accept_status, keep_end
from vk_provider.pods.connection import InstanceConnection, may_have_run
from vk_provider.pods.executor import PodExecutor, involved
from vk_provider.pods.hostports import HostPortWatch
from vk_provider.pods.images import NoImages, PodImages
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.missing import MissingRule
from vk_provider.pods.reconcile import Action, is_over, reconcile
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import compute_state, is_overdue, is_restoring, next_look_s, note_first
from vk_provider.pods.status_publisher import note_held, resource_version
from vk_provider.pods.tables import PodTables
from vk_provider.rfc3339 import format_time
from vk_provider.wire.images import IMAGES_FEATURE
from vk_provider.wire.session import EventMessage, StatusMessage, UpMessage

log = logging.getLogger(__name__)


PENDING_STATUS_AFTER_S = 1.0
"""A pod that runs sooner needs no PATCH with the phase Pending."""
DESCRIBE_WINDOW_S = 0.05
DESCRIBE_BATCH = 500
ACK_DELAY_S = 0.5


class PodController:
    """Owns the records. `on_pod` is the informers' callback; `run` only waits, workers do the work."""

    def __init__(
        self,
        cloud: Cloud,
        recorder: EventRecorder,
        metrics: PodMetrics,
        build_executor: Callable[[PodController], PodExecutor],
        build_connection: Callable[[PodController], InstanceConnection],
        agent_grace_s: float,
        capacity_of: Callable[[Instance], tuple[int, int]],
        tables: PodTables,
        host_ports: HostPortWatch,
        images: PodImages | None = None,
    ) -> None:
        self._cloud = cloud
        self._recorder = recorder
        self._metrics = metrics
        self._agent_grace_s = agent_grace_s
        self._capacity_of = capacity_of
        self._tables, self._host_ports, self._images = tables, host_ports, images or NoImages()
        self.records: dict[str, PodRecord] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._adopting = True
        self._workers = KeyedWorkers("pod", self._work)
        self._tasks: set[asyncio.Task[None]] = set()
        self._describe_batch: Batcher[str, Instance | None] = Batcher(
            self._describe_all, window_s=DESCRIBE_WINDOW_S, max_items=DESCRIBE_BATCH
        )
        metrics.follow(
            self.count_phases,
            lambda: sum(record.session is not None for record in self.records.values()),
            lambda: len(self._workers),
        )
        self._missing = MissingRule(missing.MISSING_CONFIRM_S, missing.MASS_CONFIRM_S)
        self.executor = build_executor(self)
        self._adoption = Adoption(cloud, self.records, self.executor, metrics, self.wake)
        self._connection = build_connection(self)

    # --- input ---------------------------------------------------------------------------------------------------

    def on_pod(self, node: str, kind: str, pod: Json) -> None:
        """An informer's event about a pod bound to `node`."""
        uid = pod["metadata"]["uid"]
        record = self.records.get(uid)
        if kind == "DELETED":
            if record is not None:
                record.exists = False
                self.executor.release_usage(record)  # before the next event, which may be of the pod that follows it
                if "spec" in pod:  # a deletion found by a new list has only name and UID
                    record.pod = pod
                if not self._adopting:
                    self.wake(uid)
            return
        if record is None:
            record = self._add(uid, node, pod)
        else:
            record.pod = pod
            if self._adopting:
                _see_first(record)
            self._notice_foreign_changes(record)
        if not record.ending_since and (record.deleting or record.phase in TERMINAL_PHASES):
            record.ending_since = time.monotonic()
        if not self._adopting:
            self.wake(uid)

    def on_node_known(self, node: str) -> None:
        """The Node was read or registered: admit the pods that waited for it."""
        if not self._adopting:
            for record in list(self.records.values()):
                if record.node == node and not record.admitted:
                    self.wake(record.uid)

    def _add(self, uid: str, node: str, pod: Json) -> PodRecord:
        record = PodRecord(uid, node, pod, bound_at=time.monotonic(), start_time=format_time())
        _see_first(record)
        record.pending_due = record.bound_at + PENDING_STATUS_AFTER_S
        self.records[uid] = record
        self._by_name[(record.namespace, record.name)] = uid
        return record

    def _notice_foreign_changes(self, record: PodRecord) -> None:
        """Note a status written by another writer (the controller manager's Ready=False after the Node's Lease expired,
        a user), so that the next PATCH restores the desired status: needsReconcile of a kubelet's status manager.

        Nor does a terminal phase end the pod: a kubelet's pod worker is not told of a change of the status alone
        (HandlePodReconcile), and its status manager writes the phase back.
        """
        if record.published is not None and resource_version(record.pod) > record.published_version:
            before = record.published
            note_held(record, record.pod)
            record.restoring = is_restoring(record, before)

    def receive(self, record: PodRecord, message: UpMessage) -> None:
        """Handle an agent's message. Raises AgentProtocolError for a sample beyond the instance's capacity, and for
        images that were not to be expected."""
        if message["type"] == "hello":
            self._tables.greet(record, message)
            self._greet(record, message["podUID"])
        elif message["type"] == "tables":
            self._tables.receive(record, message)
        elif message["podUID"] != record.uid:
            return  # about another pod of this instance, which `_greet` has logged
        elif message["type"] == "status":
            self._take_status(record, message)
        elif message["type"] == "event":
            self._relay_event(record, message)
        elif message["type"] == "images":
            if record.session is not None and not record.session.has(IMAGES_FEATURE):
                raise AgentProtocolError("the agent tells images without having named that feature")
            self._images.receive(record, message)
        elif record.instance is not None:
            capacity = self._capacity_of(record.instance)
            record.stats = accept_stats(message, record.pod, record.instance, *capacity, time.time())

    def _take_status(self, record: PodRecord, message: StatusMessage) -> None:
        if record.terminated or record.concluded:
            return
        self._note_heard(record)
        status = accept_status(message["status"], record.pod, record.instance)
        if record.status_from_agent:
            status = keep_end(status, record.status)
        if record.status == status and record.finished == message["finished"]:
            return
        record.status, record.status_from_agent, record.finished = status, True, message["finished"]
        record.restoring = False
        self.wake(record.uid)

    def _greet(self, record: PodRecord, uid: str) -> None:
        self.wake(record.uid)  # the pod can be sent
        if uid == "" and record.handover_unknown:
            record.handover_unknown = False
            self.wake(record.uid)
        elif uid not in ("", record.uid):
            log.error("pod %s: its instance runs pod %s", record.key, uid)
            record.lost = "the instance runs another pod"
            self.wake(record.uid)

    def _note_heard(self, record: PodRecord) -> None:
        """The agent is heard: its Ready condition is published again."""
        record.silent_since = 0.0
        if record.not_ready is not None and record.instance is not None:
            record.not_ready = None
            message = f"the agent on instance {record.instance.instance_id} answers again"
            self.executor.event(record, "Normal", eventreasons.AGENT_REACHABLE, message)
            self.wake(record.uid)

    def _relay_event(self, record: PodRecord, message: EventMessage) -> None:
        if record.event_relay is None:
            record.event_relay = AgentEventRelay(self._recorder, partial(self._acknowledge, record))
        record.event_relay.receive(involved(record.pod), record.node, message)

    def _acknowledge(self, record: PodRecord, seq: int) -> None:
        """Acknowledge the agent's events up to `seq`, after a short delay and for several at once."""
        record.ack_seq = seq
        if record.ack_timer is None:
            record.ack_timer = asyncio.get_running_loop().call_later(ACK_DELAY_S, self._ack, record)

    def _ack(self, record: PodRecord) -> None:
        record.ack_timer = None
        if record.session is not None:
            record.session.put(Slot.ACK, {"type": "ack", "seq": record.ack_seq})

    def on_connected(self, record: PodRecord) -> None:
        if record.fresh:
            self._metrics.agent_ready_seconds.observe(time.monotonic() - record.bound_at)

    def on_disconnected(self, record: PodRecord) -> None:
        """The agent counts as silent until its next message, not only until it is connected."""
        self._tables.close(record)
        if record.exists and record.has_instance and not record.finished:
            record.silent_since = record.silent_since or time.monotonic()
            self.wake(record.uid)

    def on_violation(self, record: PodRecord, message: str) -> None:
        """Count the violation and record an event; the session is closed and dialed again later."""
        self._metrics.violations.inc()
        self.executor.event(record, "Warning", eventreasons.AGENT_PROTOCOL_ERROR, message)

    # --- adoption ------------------------------------------------------------------------------------------------

    def adopt(self, instances: Iterable[Instance]) -> list[Instance]:
        """Join the cloud's instances with the pods, once, after the informers have synced and before any launch.

        `instances` was listed before the pods. Returns the surplus instances: all but one of each pod.
        """
        surplus = self._adoption.join(instances)
        if self._adoption.is_looking:
            self._spawn(self._adoption.look(), "looking for instances")
        self._adopting = False
        for uid in list(self.records):
            self.wake(uid)
        return surplus

    # --- the worker ----------------------------------------------------------------------------------------------

    def wake(self, uid: str) -> None:
        self._workers.wake(uid)

    async def _work(self, uid: str) -> float | None:
        record = self.records.get(uid)
        if record is None:
            return None
        deferred: Exception | None = None
        now = time.monotonic()
        if is_overdue(record, now):
            record.lost = "its agent did not answer within the pod's grace period"
        node_known = record.admitted or self.executor.knows_node(record.node)
        state = compute_state(record, now, self._agent_grace_s, node_known=node_known)
        if record.finished or state.terminal:
            # First: the scheduler gives the place away once it sees a terminal phase, or no object any more. Volumes,
            # logs and the instance take more time.
            self.executor.release_usage(record)
        for action in reconcile(state):
            try:
                await self.executor.apply(action, record)
            except Exception as error:
                # A DELETE that fails must not keep a finished pod's instance running.
                # Nor must a status that is not accepted for too long.
                if action is not Action.DELETE and not (action is Action.PUBLISH and state.unaccepted):
                    raise
                deferred = error
            if action in _DECISIVE:
                self._workers.wake(uid)
        self._host_ports.note(record)
        if record.finished or is_over(state):
            self.executor.release(record)
        if deferred is not None:
            raise deferred
        if uid not in self.records:
            return None
        return next_look_s(record, state, now, time.monotonic(), self._agent_grace_s)

    def connect(self, record: PodRecord) -> None:
        if may_have_run(record):
            record.silent_since = record.silent_since or time.monotonic()
        record.connection = asyncio.create_task(self._connection.run(record), name=f"session {record.uid}")
        record.connection.add_done_callback(lambda task: self._connection_done(record, task))

    def _connection_done(self, record: PodRecord, task: asyncio.Task[None]) -> None:
        if record.connection is task:
            record.connection = None
        if not task.cancelled() and task.exception() is not None:
            log.error("pod %s: connection failed", record.key, exc_info=task.exception())
            record.redial_at = time.monotonic() + record.violation_backoff.next_delay_s()
        self.wake(record.uid)

    def forget(self, record: PodRecord) -> None:
        record.close_event_relay()
        self._host_ports.forget(record)
        self._images.forget(record)
        if record.connection is not None:
            record.connection.cancel()
        record.forgotten = True
        self.executor.release_usage(record)
        self.records.pop(record.uid, None)
        if self._by_name.get((record.namespace, record.name)) == record.uid:
            del self._by_name[(record.namespace, record.name)]

    async def describe(self, instance_id: str) -> Instance | None:
        """The cloud's description of one instance, None when it does not exist; concurrent calls share a request.

        Raises CloudError when the state is unknown: no answer, or an answer without the instance that is not yet taken
        for a proof (see pods.missing).
        """
        return await self._describe_batch.submit(instance_id)

    async def _describe_all(self, instance_ids: Any) -> list[Instance | None | Exception]:
        found = {item.instance_id: item for item in await self._cloud.describe(list(instance_ids))}
        owned = sum(record.has_instance for record in self.records.values())
        verdict = self._missing.judge(instance_ids, found.keys(), owned, time.monotonic())
        if verdict.mass and verdict.doubted:
            self._metrics.mass_missing.labels("describe").inc()
            log.error(
                "the cloud does not know %d of %d instances: too many at once, none is taken for lost yet",
                len(self._missing),
                owned,
            )
        unsure = CloudError("the cloud's answer does not list the instance; it is asked again")
        return [found.get(each, None if each in verdict.missing else unsure) for each in instance_ids]

    # --- queries -------------------------------------------------------------------------------------------------

    def find(self, namespace: str, name: str) -> PodRecord | None:
        return self.records.get(self._by_name.get((namespace, name), ""))

    def count_phases(self) -> dict[str, int]:
        phases = dict.fromkeys(("Pending", "Running", *TERMINAL_PHASES), 0)
        for record in self.records.values():
            with contained(f"the phase of pod {record.uid}"):
                phases[record.phase] = phases.get(record.phase, 0) + 1
        return phases

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(_quietly(coroutine), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coroutine.close())  # in case the task was cancelled before it started

    async def close(self, flush_s: float = 5.0) -> None:
        """Let running workers finish (status PATCHes), then cancel all tasks. Instances keep running."""
        if not await self._workers.drain(flush_s):
            log.warning("%d pods were still being worked on at the stop", len(self._workers))
        await self._workers.close()
        held = [task for record in self.records.values() for task in (record.connection, record.resolving)]
        tasks = [task for task in held if task is not None]
        for task in (*tasks, *self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        for record in self.records.values():
            record.close_event_relay()
        await self._describe_batch.close()
        await self.executor.close()


def _see_first(record: PodRecord) -> None:
    """Take over what an earlier process has published."""
    status = record.pod.get("status") or {}
    note_first(record)
    if status.get("startTime"):
        record.start_time = status["startTime"]
        note_held(record, record.pod)
        record.status = status if record.first_ended is not None else None
    record.reached_running = record.first_phase in ("Running", *TERMINAL_PHASES)


_DECISIVE = {
    Action.ADMIT,
    Action.MARK_NOT_READY,
    Action.FAIL_NEVER_STARTED,
    Action.FAIL_LOST,
    Action.RELAUNCH,
    Action.STOP,
}
"""After these the facts are others: decide again."""


async def _quietly(coroutine: Any) -> None:
    try:
        await coroutine
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.debug("background step failed: %s", error)
