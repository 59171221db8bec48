"""The pod controller: receives watch events, and runs one worker per pod UID.

load (the record) -> decide (`reconcile`) -> apply (`executor`). What instances and their agents say comes through
`agents`. After a restart `adopt` joins the cloud's instances with the API server's pods; no other state is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.workers import KeyedWorkers
from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json
from vk_provider.podmodel.onecopy import OneCopy
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.adoption import Adoption
from vk_provider.pods.agents import AgentSide
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.hostports import HostPortWatch
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.reconcile import Action, is_over, reconcile
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import (
    compute_fingerprint,
    compute_state,
    is_current,
    is_overdue,
    is_restoring,
    next_look_s,
    note_first,
)
from vk_provider.pods.status_patch import share_status
from vk_provider.pods.status_publisher import note_held, resource_version
from vk_provider.rfc3339 import format_time, parse_time

log = logging.getLogger(__name__)


PENDING_STATUS_AFTER_S = 1.0
"""A pod that runs sooner needs no PATCH with the phase Pending."""


class PodController:
    """Owns the records. `on_pod` is the informers' callback; workers do the work.

    build_executor, build_agents: make the two sides that need this one; nodes: ours
    """

    def __init__(
        self,
        metrics: PodMetrics,
        build_executor: Callable[[PodController], PodExecutor],
        build_agents: Callable[[PodController], AgentSide],
        host_ports: HostPortWatch,
        agent_grace_s: float,
        nodes: Collection[str],
    ) -> None:
        self._host_ports = host_ports
        self._agent_grace_s = agent_grace_s
        self._parts = OneCopy()
        self.records: dict[str, PodRecord] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._adopting = True
        self._workers = KeyedWorkers("pod", self._work)
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.follow(self.count_phases, lambda: len(self._workers))
        self.executor = build_executor(self)
        self.room = self.executor.room
        self.agents = build_agents(self)
        self.room.listen(self.agents)
        self._awaiting: set[str] = set()
        self.room.supply.on_heard = self._on_heard
        self._adoption = Adoption(self.records, self.executor, nodes, self.wake)

    # --- input ---------------------------------------------------------------------------------------------------

    def on_pod(self, node: str, kind: str, pod: Json) -> None:
        """An informer's event about a pod bound to `node`."""
        uid = pod["metadata"]["uid"]
        record = self.records.get(uid)
        was_deleting = record is not None and record.deleting
        if kind == "DELETED":
            if record is not None:
                record.exists = False
                self.executor.gate.release(record)  # before the next event, which may be of the pod that follows it
                if "spec" in pod:  # a deletion found by a new list has only name and UID
                    record.pod = pod
                if not self._adopting:
                    self.wake(uid)
            return
        echo = False
        self._parts.share(pod, record.pod if record is not None else None)
        if record is None:
            record = self._add(uid, node, pod)
        else:
            echo = _replace_pod(record, pod)
            record.assignment.see(pod)
            if self._adopting:
                _see_first(record, inherited=True)
            self._notice_foreign_changes(record)
            share_status(pod, record.publication.held)
        is_ending = record.deleting or record.phase in TERMINAL_PHASES
        if is_ending and (not record.ending_since or record.deleting > was_deleting):
            record.ending_since = time.monotonic()
        if not self._adopting and not echo:
            self.wake(uid)

    def on_node_known(self, node: str) -> None:
        """The Node was read or registered: admit the pods that waited for it."""
        if not self._adopting:
            for record in list(self.records.values()):
                if record.node == node and not record.admission.admitted:
                    self.wake(record.uid)

    def _add(self, uid: str, node: str, pod: Json) -> PodRecord:
        now = time.monotonic()
        record = PodRecord(uid, node, pod, bound_at=now, start_time=format_time(), active_since=now)
        _see_first(record, inherited=self._adopting)
        record.publication.postpone_pending(record.bound_at + PENDING_STATUS_AFTER_S)
        self.records[uid] = record
        self._by_name[(record.namespace, record.name)] = uid
        return record

    def _notice_foreign_changes(self, record: PodRecord) -> None:
        """Note a status written by another writer (the controller manager's Ready=False after the Node's Lease expired,
        a user), so that the next PATCH restores the desired status: needsReconcile of a kubelet's status manager.

        Nor does a terminal phase end the pod: a kubelet's pod worker is not told of a change of the status alone
        (HandlePodReconcile), and its status manager writes the phase back.
        """
        before = record.publication.held
        if before is not None and resource_version(record.pod) > record.publication.version:
            note_held(record, record.pod)
            record.publication.set_restoring(is_restoring(record, before))

    # --- adoption ------------------------------------------------------------------------------------------------

    def adopt(self, instances: Iterable[Instance]) -> list[Instance]:
        """Join the cloud's instances with the pods, once, after the informers have synced and before any launch.

        `instances` was listed before the pods. Returns the surplus instances, all but one of each pod: their agents are
        asked, and the sweep ends what nobody needs.
        """
        surplus = self._adoption.join(instances)
        if surplus:
            names = ", ".join(instance.instance_id for instance in surplus)
            log.warning("surplus instances of pods that have one: %s", names)
        if self._adoption.is_looking:
            self._spawn(self._adoption.look(), "looking for instances")
        self._adopting = False
        for uid in list(self.records):
            self.wake(uid)
        return surplus

    # --- the worker ----------------------------------------------------------------------------------------------

    def wake(self, uid: str) -> None:
        if not self._adopting:
            self._workers.wake(uid)

    async def _work(self, uid: str) -> float | None:
        record = self.records.get(uid)
        if record is None:
            return None
        deferred: Exception | None = None
        now = time.monotonic()
        if is_overdue(record, now):
            verb = "answer" if record.session is None else "end it"
            record.lose(f"its agent did not {verb} within the pod's grace period")
        node_known = record.admission.admitted or self.executor.gate.knows_node(record.node)
        state = compute_state(
            record, now, self._agent_grace_s, node_known=node_known, may_be_served=self._may_be_served
        )
        if record.report.finished or state.status.terminal:
            # First: the scheduler gives the place away once it sees a terminal phase, or no object any more. Volumes,
            # logs and the instance take more time.
            self.executor.gate.release(record)
        for action in reconcile(state):
            try:
                await self.executor.apply(action, record)
            except Exception as error:
                # A DELETE that fails must not keep a finished pod's instance running.
                # Nor must a status that is not accepted for too long.
                if action is not Action.DELETE and not (action is Action.PUBLISH and state.status.unaccepted):
                    raise
                deferred = error
            if action in _DECISIVE:
                self._workers.wake(uid)
        self._host_ports.note(record)
        if record.report.finished or is_over(state):
            self.executor.release(record)
        if deferred is not None:
            raise deferred
        if uid not in self.records:
            return None
        return next_look_s(record, state, now, time.monotonic(), self._agent_grace_s)

    def _may_be_served(self, record: PodRecord) -> bool:
        """Whoever asks is woken when that is known."""
        is_so = self.room.supply.may_serve(record.uid, record.node, record.namespace)
        if is_so:
            self._awaiting.add(record.uid)
        return is_so

    def _on_heard(self) -> None:
        for uid in list(self._awaiting):
            record = self.records.get(uid)
            if record is None or not self.room.supply.may_serve(uid, record.node, record.namespace):
                self._awaiting.discard(uid)
                self.wake(uid)

    def forget(self, record: PodRecord) -> None:
        record.close_events()
        self._host_ports.forget(record)
        record.forgotten = True
        self.executor.gate.release(record)
        self.records.pop(record.uid, None)
        if self._by_name.get((record.namespace, record.name)) == record.uid:
            del self._by_name[(record.namespace, record.name)]

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
        held = [task for record in self.records.values() for task in (record.reading.task, record.assignment.proof)]
        tasks = [task for task in held if task is not None]
        for task in (*tasks, *self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        for record in self.records.values():
            record.close_events()
        await self.room.close()


def _replace_pod(record: PodRecord, pod: Json) -> bool:
    """Whether the new object only says what the answer to our own PATCH has said: there is nothing to decide. A list
    after a lost watch may show other changes at the same version."""
    published = record.publication.version
    if not published or resource_version(pod) != published:
        record.pod = pod
        return False
    before, record.pod = compute_fingerprint(record), pod
    return before == compute_fingerprint(record) and is_current(record)


def _see_first(record: PodRecord, *, inherited: bool) -> None:
    """Take over what an earlier process has published."""
    status = record.pod.get("status") or {}
    note_first(record, inherited=inherited)
    if status.get("startTime"):
        record.start_time = status["startTime"]
        record.active_since = time.monotonic() - (time.time() - parse_time(record.start_time))
        note_held(record, record.pod)
        record.report.provide(status if record.first.ended is not None else None)
    if record.first.phase in ("Running", *TERMINAL_PHASES):
        record.publication.note_running()


_DECISIVE = {
    Action.ADMIT,
    Action.MARK_NOT_READY,
    Action.FAIL_NEVER_STARTED,
    Action.FAIL_EXPIRED,
    Action.FAIL_LOST,
    Action.TELL_ENDS,
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
