"""Registers a Node, keeps its status up to date, and registers it again when it is deleted."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from vk_provider import eventreasons
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import KubeApiError
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import DELETED, Informer
from vk_provider.kube.paths import NODES, field_selector, node_path
from vk_provider.kube.recorder import EventRecorder
from vk_provider.node.lease import NodeLease
from vk_provider.node.object import PRESSURE_EVENTS, build_node, build_status, condition_states, plan_reconcile
from vk_provider.node.resources import foreign_capacity
from vk_provider.node.spec import NodeSpec

log = logging.getLogger(__name__)

ReadyCheck = Callable[[], str]
"""Returns "" or why the Node is not ready; must be fast, as it is called every few seconds."""

CHECK_S = 10.0
_NOT_READY_CHECK_S = 0.25
REPORT_S = 300.0
_SETTLE_S = 8.0


class NodeController:
    """One Node.

    ready_checks: all must return "" before Ready becomes True
    images:       entries for status.images
    on_known:     called each time the Node was read or registered, after which pods can be admitted to it
    leases:       client for the Lease, with a connection pool of its own; `client` when None
    `registered` is set once the Node exists; `uid` is the Node's UID; `lease` its heartbeat.
    """

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        spec: NodeSpec,
        ready_checks: Sequence[ReadyCheck] = (),
        images: Callable[[], Sequence[Json]] = tuple,
        *,
        on_known: Callable[[], None] = lambda: None,
        leases: KubeClient | None = None,
    ) -> None:
        self._client, self._recorder, self.spec = client, recorder, spec
        self._ready_checks, self._images, self._on_known = ready_checks, images, on_known
        selector = field_selector(metadata__name=spec.name)
        self.informer = Informer(client, NODES, selector, self._observe)
        self.lease = NodeLease(leases or client, spec.name, lambda: self.uid)
        self.registered = asyncio.Event()
        self._node: Json | None = None
        self._wake = asyncio.Event()
        self._sent: Json | None = None
        self._kept: Json = {}
        self._report_at = 0.0
        self._settled_at = 0.0

    @property
    def uid(self) -> str:
        return str(self._node["metadata"]["uid"]) if self._node is not None else ""

    @property
    def node(self) -> Json | None:
        """The Node as last read or written, None before it is registered."""
        return self._node

    @property
    def is_ready(self) -> bool:
        """Whether the Node as last read is Ready."""
        return self._observed("Ready") == "True"

    def wake(self) -> None:
        """Run the ready checks now."""
        self._wake.set()

    async def run(self) -> None:
        """Register, then report until cancelled. Instances and pods are not affected by its end."""
        self._settled_at = time.monotonic() + _SETTLE_S
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_status(), name=f"node-status {self.spec.name}")
            await self.registered.wait()
            tasks.create_task(self.informer.run(), name=f"node-watch {self.spec.name}")
            tasks.create_task(self.lease.run(), name=f"node-lease {self.spec.name}")

    async def _run_status(self) -> None:
        backoff = Backoff(first_s=0.1, max_s=7.0)
        while True:
            try:
                if self._node is None:
                    await self._register()
                await self._report()
                backoff.reset()
                delay_s = CHECK_S if not self._problems() else _NOT_READY_CHECK_S
            except KubeApiError as error:
                log.warning("node %s: status not posted: %s", self.spec.name, error)
                delay_s = backoff.next_delay_s()
            await self._sleep(delay_s)

    async def _sleep(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), delay_s)
        except TimeoutError:
            pass
        self._wake.clear()

    def _problems(self) -> list[str]:
        return [problem for check in self._ready_checks if (problem := check())]

    async def _register(self) -> None:
        node = build_node(self.spec, self._problems(), time.time(), self._images())
        self._sent = None
        try:
            self._node = await self._client.create(NODES, node)
            self._sent = _without_times(node["status"])
            self._kept = self._node.get("status") or {}
            self._report_at = time.monotonic() + REPORT_S
            log.info("registered node %s", self.spec.name)
            self._event(eventreasons.STARTING, "Starting kubelet.")
            for reason in PRESSURE_EVENTS.values():
                self._status_event(reason)
        except KubeApiError as error:
            if not error.is_conflict:
                raise
            self._node = await self._adopt_node()
            self._event(eventreasons.STARTING, "Starting kubelet.")
        self.registered.set()
        self.lease.wake()
        self._on_known()

    async def _adopt_node(self) -> Json:
        """Update labels, annotations and our taint of a Node that exists already."""
        for _ in range(5):
            node = await self._client.get(node_path(self.spec.name))
            patch = plan_reconcile(self.spec, node)
            if patch is None:
                return node
            try:
                return await self._client.patch_strategic(node_path(self.spec.name), patch)
            except KubeApiError as error:
                if not error.is_conflict:
                    raise
        raise KubeApiError(409, "Conflict", f"node {self.spec.name} keeps changing")

    async def _report(self) -> None:
        """PATCH the status when it differs from the one last sent, when others have changed what the API server kept of
        it, or when the report interval has passed."""
        node = self._node
        if node is None:
            return
        problems, before = self._problems(), condition_states(node.get("status") or {})
        if problems and self._is_settling(before):
            return
        now, held = time.time(), node.get("status") or {}
        status = build_status(self.spec, problems, held, now, self._images())
        essence = _without_times(status)
        wanted = condition_states(status)
        # Compared with the answer to the last PATCH: the API server may keep a field in another form, or not at all.
        altered = any(held.get(name) != self._kept.get(name) for name in status.keys() - {"conditions"})
        changed = essence != self._sent or altered or any(before.get(kind) != state for kind, state in wanted.items())
        if not changed and time.monotonic() < self._report_at:
            return
        await self._patch_status(status)
        self._sent = essence
        self._report_at = time.monotonic() + REPORT_S * random.uniform(0.5 if changed else 1.0, 1.5)
        self._record_transitions(before, wanted)

    def _is_settling(self, before: dict[str, tuple[str, str, str]]) -> bool:
        """Whether a Node that was Ready before a restart waits for the caches: NotReady would remove its endpoints."""
        return before.get("Ready", ("",))[0] == "True" and time.monotonic() < self._settled_at

    async def _patch_status(self, status: Json) -> None:
        # Merged by their type, of two addresses of one type one would be lost (fixupPatchForNodeStatusAddresses).
        patch = {**status, "addresses": [*status["addresses"], {"$patch": "replace"}]}
        try:
            self._node = await self._client.patch_strategic(
                node_path(self.spec.name, "status"), {"status": patch}, timeout_s=10
            )
        except KubeApiError as error:
            if error.is_not_found:
                self._node = None
                self._wake.set()
                return
            raise
        self._kept = self._node.get("status") or {}

    def _record_transitions(
        self, before: dict[str, tuple[str, str, str]], wanted: dict[str, tuple[str, str, str]]
    ) -> None:
        if before.get("Ready", ("",))[0] not in ("", wanted["Ready"][0]):
            ready = wanted["Ready"][0] == "True"
            log.info("node %s is %s", self.spec.name, "ready" if ready else f"not ready: {wanted['Ready'][2]}")
            self._status_event(eventreasons.NODE_READY if ready else eventreasons.NODE_NOT_READY)
        for kind, reason in PRESSURE_EVENTS.items():
            if before.get(kind, ("False",))[0] != wanted[kind][0]:
                self._status_event(reason)

    def _observe(self, kind: str, node: Json) -> None:
        if kind == DELETED:
            if self._node is not None and node["metadata"]["uid"] == self.uid:
                log.warning("node %s was deleted, registering it again", self.spec.name)
                self._node = None
                self._wake.set()
            return
        known = self._node
        if known is not None and _is_older(node, known):
            return
        self._node = node
        if known is None:
            return
        cordoned, now_cordoned = (bool(each["spec"].get("unschedulable")) for each in (known, node))
        if cordoned != now_cordoned:
            self._status_event(eventreasons.NODE_NOT_SCHEDULABLE if now_cordoned else eventreasons.NODE_SCHEDULABLE)
        before, after = (each.get("status") or {} for each in (known, node))
        if condition_states(before) != condition_states(after) or (
            foreign_capacity(self.spec, before) != foreign_capacity(self.spec, after)
        ):
            self._wake.set()

    def _observed(self, kind: str) -> str:
        states = condition_states((self._node or {}).get("status") or {})
        return states[kind][0] if kind in states else ""

    def _status_event(self, reason: EventReason) -> None:
        self._event(reason, f"Node {self.spec.name} status is now: {reason}")

    def _event(self, reason: EventReason, message: str) -> None:
        reference = {"apiVersion": "v1", "kind": "Node", "name": self.spec.name, "uid": self.uid}
        self._recorder.record(reference, "Normal", reason, message, host=self.spec.name)


def _is_older(node: Json, known: Json) -> bool:
    """Whether a watch event is older than the answer to our last PATCH (versions of one resource are ordered)."""
    versions = [each["metadata"].get("resourceVersion", "") for each in (node, known)]
    if not all(version.isdecimal() for version in versions):
        return False
    return int(versions[0]) <= int(versions[1])


def _without_times(status: Json) -> Json:
    """What counts of a status that is to be sent: no times, and no entry that it only removes."""
    resources = {
        name: {key: amount for key, amount in status[name].items() if amount is not None}
        for name in ("capacity", "allocatable")
    }
    return {**status, **resources, "conditions": condition_states(status)}
