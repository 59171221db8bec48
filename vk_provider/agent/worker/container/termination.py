"""Stopping containers by the kubelet's rules: one shared grace period, preStop inside it, sidecars in reverse order.

Source of the rules: killContainer and kuberuntime_termination_order.go (v1.37).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from vk_provider.agent.worker.rules.actions import KillReason
from vk_provider.agent.worker.rules.spec import (
    grace_period_s,
    init_containers,
    is_sidecar,
    metadata_of,
    regular_containers,
)
from vk_provider.jsontypes import Json

MINIMUM_GRACE_S = 2
"""What is always left for SIGTERM, so that a container is not killed outright."""


class GracePeriod:
    """A deadline that may come nearer while containers are being stopped. Seconds on the monotonic clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = seconds
        self.deadline = clock() + seconds
        self._changed = asyncio.Event()

    def shorten(self, seconds: float) -> bool:
        """Count `seconds` from now if that ends earlier; return whether it does."""
        deadline = self._clock() + seconds
        if seconds >= self.seconds or deadline >= self.deadline:
            return False
        self.seconds = seconds
        self.deadline = deadline
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    def remaining_s(self) -> float:
        return max(0.0, self.deadline - self._clock())

    async def wait(self, tasks: Iterable[asyncio.Future[Any]]) -> bool:
        """Wait until all tasks are done or the period is over; return whether they are done."""
        pending = {task for task in tasks if not task.done()}
        while pending and self.remaining_s() > 0:
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({*pending, changed}, timeout=self.remaining_s(), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            pending = {task for task in pending if not task.done()}
        return not pending

    async def until_done_or_shortened(self, task: asyncio.Task[None]) -> bool:
        """Wait for the task however long it takes; False as soon as the period is shortened first."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        if task.done():
            task.result()
            return True
        return False


class TerminationOrder:
    """Regular containers stop at once; a sidecar stops after them and after every later sidecar."""

    def __init__(self, pod: Json, running: Iterable[str]) -> None:
        running_names = set(running)
        loop = asyncio.get_running_loop()
        self._ended: dict[str, asyncio.Future[None]] = {name: loop.create_future() for name in running_names}
        regular = [c["name"] for c in regular_containers(pod) if c["name"] in running_names]
        self._waits_for: dict[str, list[str]] = {}
        later: list[str] = []
        for container in reversed(init_containers(pod)):
            name = container["name"]
            if not is_sidecar(container):
                continue
            self._waits_for[name] = regular + later
            later = [name] if name in running_names else later

    def predecessors(self, name: str) -> list[asyncio.Future[None]]:
        return [self._ended[other] for other in self._waits_for.get(name, ())]

    def set_ended(self, name: str) -> None:
        future = self._ended.get(name)
        if future is not None and not future.done():
            future.set_result(None)


def kill_grace_s(pod: Json, container: Json, reason: KillReason) -> int:
    """Grace of one container that is killed while its pod lives on, or as part of the pod's end."""
    deletion = metadata_of(pod).get("deletionGracePeriodSeconds")
    if deletion is not None:
        return int(deletion)
    probe_name = {"liveness": "livenessProbe", "startup": "startupProbe"}.get(reason)
    if probe_name:
        own = (container.get(probe_name) or {}).get("terminationGracePeriodSeconds")
        if own is not None:
            return int(own)
    return grace_period_s(pod)


def pod_grace_s(pod: Json, override_s: int | None) -> int:
    """Grace of the whole pod: the shortest of what deletion, an eviction and the spec give, at least 1 s."""
    given = (metadata_of(pod).get("deletionGracePeriodSeconds"), override_s)
    wanted = [int(seconds) for seconds in given if seconds is not None]
    return max(1, min(wanted) if wanted else grace_period_s(pod))


async def stop_container(
    *,
    grace: GracePeriod,
    predecessors: Iterable[asyncio.Future[None]],
    pre_stop: asyncio.Task[None] | None,
    stop: Callable[[int], Coroutine[Any, Any, None]],
) -> None:
    """Stop one container: preStop hook, its turn, then `stop(timeout_s)`, all within the shared grace period.

    pre_stop: the running hook (it may outlive the grace period; the caller owns it)
    stop:     CRI StopContainer; called again with less time when the grace period is shortened meanwhile
    """
    if pre_stop is not None:
        await grace.wait([pre_stop])
    await grace.wait(predecessors)
    while True:
        timeout_s = max(MINIMUM_GRACE_S, int(grace.remaining_s()))
        task = asyncio.create_task(stop(timeout_s), name="stop-container")
        try:
            if await grace.until_done_or_shortened(task):
                return
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
