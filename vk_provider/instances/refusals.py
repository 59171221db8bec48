"""Instances that end because nothing proves that they have the pod that their agent names, and who waits for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from vk_provider.instances.ends import Ends
from vk_provider.instances.instance import OwnedInstance

log = logging.getLogger(__name__)

WAIT_S = 60.0
"""How long a pod waits for an end that is not accepted."""


class Refusals:
    """The agent may be of an earlier version, which keeps no grant, and run the pod: as long as its instance's end was
    not accepted, the pod is held. on_over: one of them holds nobody any more."""

    def __init__(self, ends: Ends, on_over: Callable[[], None]) -> None:
        self._ends, self._on_over = ends, on_over
        self._refused: dict[str, tuple[str, asyncio.TimerHandle]] = {}

    def add(self, owned: OwnedInstance, uid: str) -> None:
        """End the instance, whose agent names the pod."""
        log.warning("instance %s names pod %s without proof: it is ended", owned.instance_id, uid)
        timer = asyncio.get_running_loop().call_later(WAIT_S, self._end, owned)
        self._refused[owned.instance_id] = uid, timer
        self._ends.let_go(owned, "unproved", lambda: self._end(owned))

    def holds(self, uid: str) -> bool:
        """Whether the pod may run on one that is about to end."""
        return any(named == uid for named, _ in self._refused.values())

    def _end(self, owned: OwnedInstance) -> None:
        _, timer = self._refused.pop(owned.instance_id, ("", None))
        if timer is not None:
            timer.cancel()
            self._on_over()

    def close(self) -> None:
        for _, timer in self._refused.values():
            timer.cancel()
