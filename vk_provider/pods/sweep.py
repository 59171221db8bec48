"""Orphan sweep: terminates instances of this provider whose pod is gone.

The cloud is listed before the API server is asked, new instances are skipped, an instance must be an orphan in two
sweeps (in more when there are many at once, see pods.missing), and a sweep in which the cloud or the API server fails
is aborted. (Kip once killed every cell after an outage.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from vk_provider.cloud.base import TAG_NODE, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID, Cloud, Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CloudError, KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.controller import PodController
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.missing import MissingRule

log = logging.getLogger(__name__)


def select_candidates(
    instances: list[Instance], claimed: set[str], nodes: set[str], now_s: float, min_age_s: float
) -> list[Instance]:
    """Live instances of our Nodes, old enough, that no record claims. Pure."""
    return [
        instance
        for instance in instances
        if not instance.state.is_terminating
        and instance.instance_id not in claimed
        and instance.tags.get(TAG_NODE) in nodes
        and now_s - instance.launch_time >= min_age_s
    ]


def find_foreign_instances(instances: list[Instance], nodes: set[str]) -> dict[str, list[str]]:
    """Node -> IDs of its live instances, for Nodes that this provider does not have. Pure."""
    found: dict[str, list[str]] = {}
    for instance in instances:
        node = instance.tags.get(TAG_NODE, "")
        if node not in nodes and not instance.state.is_terminating:
            found.setdefault(node, []).append(instance.instance_id)
    return found


MASS_SWEEPS = 10
"""Number of sweeps that must agree when the pods of many instances are gone at once."""


class OrphanSweep:
    """Runs every interval_s, until cancelled. `clock`: monotonic seconds."""

    def __init__(
        self,
        cloud: Cloud,
        client: KubeClient,
        controller: PodController,
        nodes: set[str],
        metrics: PodMetrics,
        interval_s: float,
        min_age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._client = client
        self._controller = controller
        self._nodes = nodes
        self._metrics = metrics
        self._interval_s = interval_s
        self._min_age_s = min_age_s
        self._clock = clock
        # Timers are not exact: half an interval distinguishes two sweeps.
        self._rule = MissingRule(0.5 * interval_s, (MASS_SWEEPS - 0.5) * interval_s)
        self._foreign: dict[str, list[str]] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.sweep()
            except (CloudError, KubeApiError, OSError) as error:
                self._rule.reset()
                log.warning("orphan sweep aborted: %s", error)

    async def sweep(self) -> list[str]:
        """One sweep; returns the terminated instance IDs."""
        instances = await list_owned(self._cloud)
        terminator = self._controller.executor.terminator
        claimed = {
            record.instance.instance_id for record in self._controller.records.values() if record.instance is not None
        }
        claimed |= terminator.pending
        self._log_foreign_instances(find_foreign_instances(instances, self._nodes))
        candidates = select_candidates(instances, claimed, self._nodes, time.time(), self._min_age_s)
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
        found = sorted(verdict.missing)
        if not found:
            return []
        log.warning("terminating %d instances whose pods are gone: %s", len(found), ", ".join(found))
        accepted = await asyncio.gather(*(terminator.end(instance_id) for instance_id in found))
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
        """Ask the API server itself, not a cache."""
        uid = instance.tags.get(TAG_POD_UID, "")
        namespace, name = instance.tags.get(TAG_POD_NAMESPACE, ""), instance.tags.get(TAG_POD_NAME, "")
        record = self._controller.records.get(uid)
        if record is not None:
            # Surplus: the pod has another instance, or is terminal and needs none. A pod without an instance may be
            # waiting for this one's launch.
            if record.instance is None:
                return record.phase in TERMINAL_PHASES
            return record.instance.instance_id != instance.instance_id
        if not (uid and namespace and name):
            return True
        try:
            pod = await self._client.get(pod_path(namespace, name))
        except KubeApiError as error:
            if error.is_not_found:
                return True
            raise
        if pod["metadata"]["uid"] != uid:
            return True
        return (pod.get("status") or {}).get("phase") in TERMINAL_PHASES
