"""The gate before the containers: none starts before each table that the Node names was in force once.

A pod that ran without its first table would reach no Service; without its first policy it would reach, and be reached
by, what it must not. Volumes, sandbox and images do not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from vk_provider import eventreasons
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.aiokit.backoff import Backoff

log = logging.getLogger(__name__)

_WHAT = {"services": "Services", "policy": "NetworkPolicies"}


class TablesInForce(Protocol):
    """Who applies the tables of this instance."""

    def missing(self, names: Iterable[str]) -> Mapping[str, str]:
        """Those of `names` that were never in force -> why, in words."""

    async def wait_change(self) -> None:
        """Return when that may have changed."""


class NoTables:
    """An agent that applies none: nothing is waited for."""

    def missing(self, names: Iterable[str]) -> Mapping[str, str]:
        return {}

    async def wait_change(self) -> None:
        await asyncio.Event().wait()


class StartGate:
    """`wait` before containers are started."""

    def __init__(self, tables: TablesInForce, memory: PodMemory, recorder: Recorder) -> None:
        self._tables = tables
        self._memory = memory
        self._recorder = recorder

    async def wait(self) -> None:
        """Return at once when every table that the Node's facts name was in force. Tells in an event what is late, now
        and then again; facts without the names end the wait at the next of these."""
        pause = Backoff(3.0, 60.0, jitter=0.0)
        while missing := self._tables.missing(self._memory.node.get("tables") or ()):
            try:
                async with asyncio.timeout(pause.next_delay_s()):
                    while self._tables.missing(missing) == missing:
                        await self._tables.wait_change()
            except TimeoutError:
                self._tell(missing)

    def _tell(self, missing: Mapping[str, str]) -> None:
        parts = [f"the table of {_WHAT.get(name, name)} is not in force: {why}" for name, why in missing.items()]
        message = f"network is not ready: {'; '.join(parts)}"
        log.warning("containers wait: %s", message)
        self._recorder.warn(eventreasons.NETWORK_NOT_READY, message)
