"""Orphan sweep: ends instances that nobody needs: those whose pod is gone, and idle ones.

The cloud is listed before the API server is asked, new instances are skipped, an instance must be an orphan in two
sweeps (in more when there are many at once, see missing), and a sweep in which the cloud or the API server fails is
aborted. (Kip once killed every cell after an outage.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from vk_provider.cloud.base import TAG_NODE, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID, Instance
from vk_provider.errors import CloudError, KubeApiError
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.missing import MissingRule
from vk_provider.instances.room import Instances

log = logging.getLogger(__name__)

MASS_SWEEPS = 10
"""Number of sweeps that must agree when the pods of many instances are gone at once."""


class PodWitness(Protocol):
    """What the sweep asks of `pods`."""

    def claims(self) -> set[str]:
        """IDs of the instances that pods have."""

    async def needs(self, uid: str, namespace: str, name: str, instance_id: str) -> bool:
        """Whether the pod, as the API server itself says, may need that instance. Raises KubeApiError."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    """nodes: ours. interval_s: between two sweeps. min_age_s: younger instances are left alone."""

    nodes: Collection[str]
    interval_s: float
    min_age_s: float


def select_candidates(
    instances: list[Instance], claimed: set[str], nodes: Collection[str], now_s: float, min_age_s: float
) -> list[Instance]:
    """Live instances of our Nodes, old enough, that nobody claims. Pure."""
    return [
        instance
        for instance in instances
        if not instance.state.is_terminating
        and instance.instance_id not in claimed
        and instance.tags.get(TAG_NODE) in nodes
        and now_s - instance.launch_time >= min_age_s
    ]


def find_foreign_instances(instances: list[Instance], nodes: Collection[str]) -> dict[str, list[str]]:
    """Node -> IDs of its live instances, for Nodes that this provider does not have. Pure."""
    found: dict[str, list[str]] = {}
    for instance in instances:
        node = instance.tags.get(TAG_NODE, "")
        if node not in nodes and not instance.state.is_terminating:
            found.setdefault(node, []).append(instance.instance_id)
    return found


class OrphanSweep:
    """Runs every interval_s, until cancelled. `clock`: monotonic seconds."""

    def __init__(
        self,
        room: Instances,
        pods: PodWitness,
        metrics: InstanceMetrics,
        rules: SweepRules,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room = room
        self._pods = pods
        self._metrics = metrics
        self._rules = rules
        self._clock = clock
        # Timers are not exact: half an interval distinguishes two sweeps.
        self._rule = MissingRule(0.5 * rules.interval_s, (MASS_SWEEPS - 0.5) * rules.interval_s)
        self._foreign: dict[str, list[str]] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._rules.interval_s)
            try:
                await self.sweep()
            except (CloudError, KubeApiError, OSError) as error:
                self._rule.reset()
                log.warning("orphan sweep aborted: %s", error)

    async def sweep(self) -> list[str]:
        """One sweep; returns the terminated instance IDs."""
        await self._room.table.refresh()
        instances = list(self._room.table.listed.values())
        claimed = self._pods.claims() | self._room.ends.known
        self._log_foreign_instances(find_foreign_instances(instances, self._rules.nodes))
        candidates = select_candidates(instances, claimed, self._rules.nodes, time.time(), self._rules.min_age_s)
        listed = {instance.instance_id for instance in instances}
        orphans = {instance.instance_id for instance in candidates if await self._looks_orphaned(instance)}
        verdict = self._rule.judge(orphans, listed - orphans, len(listed), self._clock())
        if verdict.mass and verdict.doubted:
            self._metrics.mass_missing.labels("sweep").inc()
            log.error(
                "the pods of %d of %d instances are gone: too many at once, none is terminated yet",
                len(verdict.doubted),
                len(listed),
            )
        # Somebody may have been given one while the API server was asked.
        found = sorted(verdict.missing - self._pods.claims())
        if not found:
            return []
        for instance_id in found:  # at once: nobody is given one of them any more
            if (owned := self._room.table.owned.get(instance_id)) is not None:
                self._room.supply.settle(owned)
        log.warning("terminating %d instances that nobody needs: %s", len(found), ", ".join(found))
        accepted = await asyncio.gather(*(self._room.end_orphan(instance_id) for instance_id in found))
        ended = [instance_id for instance_id, ok in zip(found, accepted, strict=True) if ok]
        self._metrics.orphans.inc(len(ended))
        return ended

    async def _looks_orphaned(self, instance: Instance) -> bool:
        """False also for an instance that cannot be checked: a fault about one must not abort the sweep."""
        try:
            return await self._is_orphan(instance)
        except (CloudError, KubeApiError, OSError):
            raise
        except Exception as error:
            log.error("instance %s cannot be checked: %s: %s", instance.instance_id, type(error).__name__, error)
            return False

    def _log_foreign_instances(self, foreign: dict[str, list[str]]) -> None:
        """Log foreign instances: they cost money, but may belong to another provider."""
        if foreign != self._foreign:
            for node, instance_ids in foreign.items():
                log.warning(
                    "instances of Node %r run, which is not in this configuration: %s; if no other provider has that "
                    "Node, add it again and delete its pods, or terminate them",
                    node,
                    ", ".join(instance_ids),
                )
            self._foreign = foreign

    async def _is_orphan(self, instance: Instance) -> bool:
        """Its agent's word about its pod counts before its tags."""
        owned = self._room.table.owned.get(instance.instance_id)
        namespace, name = instance.tags.get(TAG_POD_NAMESPACE, ""), instance.tags.get(TAG_POD_NAME, "")
        uid = instance.tags.get(TAG_POD_UID, "")
        if instance.instance_id in self._room.stock.kept():
            return False
        if owned is not None and owned.said_uid == "":
            return True  # idle
        if owned is not None and owned.said_uid and owned.said_uid != uid:
            uid, name = owned.said_uid, ""
        if not uid:
            # A launch whose outcome is not known may be this one's.
            return not (self._room.launches.is_busy or self._room.filling.is_busy)
        return not await self._pods.needs(uid, namespace, name, instance.instance_id)
