"""After a restart: joins instances with pods, and decides about pods that ran but whose instance is not listed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from vk_provider.aiokit.guard import contained
from vk_provider.cloud.base import TAG_ATTEMPT, TAG_POD_UID, Cloud, Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.pods import missing
from vk_provider.pods.executor import PodExecutor
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.missing import MissingRule
from vk_provider.pods.record import PodRecord

log = logging.getLogger(__name__)

LOOKING = "looking for its instance"
"""`hold` of a pod that ran and whose instance is not in the cloud's answers."""


class Adoption:
    """Joins the cloud's instances with the pods by tag. `records`: those of the controller, by pod UID."""

    def __init__(
        self,
        cloud: Cloud,
        records: Mapping[str, PodRecord],
        executor: PodExecutor,
        metrics: PodMetrics,
        wake: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._records = records
        self._executor = executor
        self._metrics = metrics
        self._wake = wake
        self._rule = MissingRule(missing.MISSING_CONFIRM_S, missing.MASS_CONFIRM_S)

    def join(self, instances: Iterable[Instance]) -> list[Instance]:
        """`instances` was listed before the pods. Returns the surplus instances."""
        surplus: list[Instance] = []
        ranked: list[tuple[tuple[bool, bool, int, float], Instance]] = []
        for instance in instances:
            with contained(f"instance {instance.instance_id}"):
                ranked.append((self._rank(instance), instance))
        for _, instance in sorted(ranked, key=lambda item: item[0]):
            record = self._records.get(instance.tags.get(TAG_POD_UID, ""))
            if record is None or instance.state.is_terminated:
                continue
            if record.instance is not None:
                surplus.append(instance)
                continue
            with contained(f"pod {record.uid}"):
                self._take(record, instance)
        for record in self._records.values():
            with contained(f"pod {record.uid}"):
                if record.instance is None and record.first_ended is None and record.first_started:
                    record.admitted, record.hold = True, LOOKING
                    self._executor.count_usage(record)
        if self._looking():
            self._judge(set())
        return surplus

    def _take(self, record: PodRecord, instance: Instance) -> None:
        record.instance = instance
        record.launched_at = time.monotonic()
        record.attempt = _attempt(instance)
        record.fresh = record.handover_unknown = not record.first_started
        if record.first_ended is None:
            self._executor.count_usage(record)
        log.info("pod %s: adopted instance %s", record.key, instance.instance_id)

    def _rank(self, instance: Instance) -> tuple[bool, bool, int, float]:
        """Sort key of the instances of one pod: first the one that the pod's status names, then the newest attempt (the
        earlier ones were abandoned), then the oldest; last those that are terminating if the pod never started."""
        record = self._records.get(instance.tags.get(TAG_POD_UID, ""))
        host = (record.pod.get("status") or {}).get("hostIP") if record is not None else None
        ending = instance.state.is_terminating or instance.state.has_stopped
        unused = ending and record is not None and not record.first_started
        return unused, not host or host != instance.primary_ip, -_attempt(instance), instance.launch_time

    # --- pods that ran and whose instance is not listed ------------------------------------------------------------

    def _looking(self) -> list[PodRecord]:
        return [r for r in self._records.values() if r.hold == LOOKING and r.instance is None and r.exists]

    @property
    def is_looking(self) -> bool:
        return bool(self._looking())

    async def look(self) -> None:
        """List again, once for all pods, until each has its instance or is known to have lost it."""
        while self._looking():
            await asyncio.sleep(self._interval_s)
            try:
                listed = await list_owned(self._cloud)
            except Exception as error:
                log.warning("cannot look for the instances of %d pods: %s", len(self._looking()), error)
                continue
            self._find(listed)

    @property
    def _interval_s(self) -> float:
        return missing.MISSING_CONFIRM_S

    def _find(self, listed: list[Instance]) -> None:
        found: dict[str, Instance] = {}
        ended: dict[str, Instance] = {}
        for instance in listed:
            (ended if instance.state.is_terminated else found)[instance.tags.get(TAG_POD_UID, "")] = instance
        for record in self._looking():
            with contained(f"pod {record.uid}"):
                if record.uid in found:
                    self._take(record, found[record.uid])
                    self._settle(record, "")
                elif record.uid in ended:
                    of_cloud = ended[record.uid]
                    reason = f": {of_cloud.state_reason}" if of_cloud.state_reason else ""
                    self._settle(record, f"instance {of_cloud.instance_id} is {of_cloud.state}{reason}")
        for uid in self._judge(found.keys() | ended.keys()):
            self._settle(self._records[uid], "the pod's instance does not exist any more")

    def _judge(self, named: set[str]) -> frozenset[str]:
        asked = {record.uid for record in self._looking()}
        known = len(asked) + sum(record.instance is not None for record in self._records.values())
        verdict = self._rule.judge(asked, named & asked, known, time.monotonic())
        if verdict.mass and verdict.doubted:
            self._metrics.mass_missing.labels("adoption").inc()
            log.error(
                "the cloud names no instance for %d of %d pods that ran: too many at once, none is taken for lost yet",
                len(verdict.doubted),
                known,
            )
        return verdict.missing

    def _settle(self, record: PodRecord, lost: str) -> None:
        record.hold, record.lost = "", lost
        self._wake(record.uid)


def _attempt(instance: Instance) -> int:
    text = instance.tags.get(TAG_ATTEMPT, "")
    return int(text) if text.isdecimal() else 0
