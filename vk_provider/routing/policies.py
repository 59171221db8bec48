"""NetworkPolicies for the pods of our Nodes: followed always; the cluster's pods and namespaces while a policy that
selects one of our pods speaks of them.

A table is published only when everything that it depends on was listed once: until then a new pod has none, and its
containers wait; one that has a table keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter

from vk_provider.aiokit.computed import ComputedGauge
from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import DELETED, Informer, StoreOptions, key_by_name
from vk_provider.kube.paths import NAMESPACES, NETWORK_POLICIES, PODS
from vk_provider.netpolicy.index import PolicyIndex
from vk_provider.netpolicy.judgement import Connection, Judgement, RuleName
from vk_provider.netpolicy.peer import TERMINATED, trim_pod
from vk_provider.netpolicy.policy import Direction
from vk_provider.netpolicy.words import describe_rule
from vk_provider.routing.clusterwatch import WatchOnDemand
from vk_provider.routing.policytables import PolicyTables, PolicyTexts

log = logging.getLogger(__name__)

SETTLE_S = 0.002
"""Changes that come together make one table."""
MIN_INTERVAL_S = 0.1
TURN_S = 0.004
"""Longest turn of the event loop."""
_ADDRESSES_AT_ONCE = 64


def trim_namespace(item: Json) -> Json:
    kept = ("name", "uid", "resourceVersion", "labels")
    return {"metadata": {name: item["metadata"][name] for name in kept if name in item["metadata"]}}


class PolicyRouting:
    """Root task `run`. `on_pod` takes the events of our pods; `source` gives the table of one."""

    def __init__(
        self, client: KubeClient, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._index = PolicyIndex()
        self._texts = PolicyTexts()
        self._sources: dict[str, PolicyTables] = {}
        self._due: set[str] = set()
        self._changed = asyncio.Event()
        self._policies = Informer(
            client,
            NETWORK_POLICIES,
            None,
            self._on_policy,
            store=StoreOptions(keep=False, key=key_by_name),
        )
        self._pods = WatchOnDemand(
            "pods of the cluster",
            lambda: Informer(client, PODS, None, self._on_peer, store=StoreOptions(keep=False, trim=trim_pod)),
            self._changed.set,
            self._index.forget_pods,
            clock=clock,
        )
        self._namespaces = WatchOnDemand(
            "namespaces",
            lambda: Informer(
                client,
                NAMESPACES,
                None,
                self._on_namespace,
                store=StoreOptions(keep=False, trim=trim_namespace, key=key_by_name),
            ),
            self._changed.set,
            self._index.forget_namespaces,
            clock=clock,
        )
        ComputedGauge(
            "vk_policy_watches",
            "Cluster-wide watches that network policies need now",
            ("resource",),
            lambda: {("pods",): float(self._pods.is_running), ("namespaces",): float(self._namespaces.is_running)},
            registry,
        )
        self._revisions = Counter(
            "vk_policy_table_revisions_total", "New tables of pods' network policies", registry=registry
        )

    def on_pod(self, kind: str, pod: Json) -> None:
        """An event about a pod of one of our Nodes."""
        uid = str(pod["metadata"]["uid"])
        if kind == DELETED:
            self._sources.pop(uid, None)
            self._due.discard(uid)
        over = kind == DELETED or (pod.get("status") or {}).get("phase") in TERMINATED
        if self._index.forget(uid) if over else self._index.follow(uid, pod):
            self._changed.set()

    def source(self, uid: str, addresses: Sequence[str]) -> PolicyTables:
        """The table for the instance of one of our pods. addresses: of the pod."""
        source = self._sources.get(uid)
        if source is None or source.addresses != tuple(addresses):
            source = self._sources[uid] = PolicyTables(self._texts, addresses)
        self._due.add(uid)
        if self._index.is_compiled:
            self._publish(uid)
        self._changed.set()
        return source

    async def settle(self) -> None:
        """Compile what has changed, in turns that others get theirs between, so that `judge` costs little."""
        compiled = False
        while not compiled:
            with contained("network policies"):  # each address is taken up once
                compiled = self._index.compile_some(_ADDRESSES_AT_ONCE)
            await asyncio.sleep(0)

    def judge(self, uid: str, connection: Connection) -> Judgement | None:
        """What the policies of one of our pods say of a new connection. None for a pod that is not ours, or before
        everything that they speak of was listed."""
        if not self._index.follows(uid) or not self._is_complete(uid):
            return None
        return self._index.judge(uid, connection)

    def describe_rule(self, direction: Direction, rule: RuleName) -> str:
        """In words; "" when it is not there any more."""
        policy = self._index.find_policy(rule.policy)
        rules = policy.rules.get(direction, ()) if policy is not None else ()
        return describe_rule(direction, rules[rule.number - 1]) if rule.number <= len(rules) else ""

    async def run(self) -> None:
        """Run until cancelled; raises when one of the watches ended unexpectedly."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._policies.run(), name="network policies")
            group.create_task(self._note_synced(), name="first network policies")
            wait_s: float | None = None
            while True:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(SETTLE_S)
                self._changed.clear()
                wait_s = await self._work(group)
                await asyncio.sleep(MIN_INTERVAL_S - SETTLE_S)

    async def _note_synced(self) -> None:
        await self._policies.synced.wait()
        self._changed.set()

    async def _work(self, group: asyncio.TaskGroup) -> float | None:
        """Follow what is needed, publish what is complete. Seconds until a watch may be stopped, or None."""
        waits = (
            self._pods.need(self._index.names_pods(), group),
            self._namespaces.need(self._index.names_namespaces(), group),
        )
        await self.settle()
        self._due |= self._index.take_changed()
        since = time.perf_counter()
        for uid in list(self._due):
            with contained(f"the network policies of pod {uid}"):
                self._publish(uid)
            if time.perf_counter() - since >= TURN_S:
                await asyncio.sleep(0)
                since = time.perf_counter()
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _publish(self, uid: str) -> None:
        source = self._sources.get(uid)
        if source is None or not self._index.follows(uid):
            self._due.discard(uid)
        elif self._is_complete(uid):
            self._due.discard(uid)
            table = self._index.table(uid)
            if table.revision != source.revision:
                self._revisions.inc()
                if self._index.is_too_large(uid):
                    names = ", ".join(self._index.policies_of(uid))
                    log.warning("pod %s: its network policies have too many rules, nothing is allowed: %s", uid, names)
                source.publish(table)

    def _is_complete(self, uid: str) -> bool:
        """Whether everything that the table depends on was listed once."""
        if not self._policies.synced.is_set() or (self._index.names_pods(uid) and not self._pods.is_synced):
            return False
        return self._namespaces.is_synced or not self._index.names_namespaces(uid)

    def _on_policy(self, kind: str, item: Json) -> None:
        if kind == DELETED:
            self._index.remove_policy(item["metadata"]["namespace"], item["metadata"]["name"])
        else:
            self._index.apply_policy(item)
        self._changed.set()

    def _on_peer(self, kind: str, item: Json) -> None:
        uid = str(item["metadata"]["uid"])
        if kind == DELETED:
            self._index.remove_pod(uid)
        else:
            self._index.apply_pod(uid, item)
        self._changed.set()

    def _on_namespace(self, kind: str, item: Json) -> None:
        metadata = item["metadata"]
        if kind == DELETED:
            self._index.remove_namespace(metadata["name"])
        else:
            self._index.apply_namespace(metadata["name"], metadata.get("labels") or {})
        self._changed.set()
