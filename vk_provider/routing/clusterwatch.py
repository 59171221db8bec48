"""A collection of the whole cluster, followed while somebody needs it and a while longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from vk_provider.kube.informer import Informer

LINGER_S = 300.0
"""After the last need: policies and the pods that they select come and go, and every start lists the whole cluster."""


class WatchOnDemand:
    """need: called with the present need; starts and stops the informer, in tasks of `group`.

    build:     a new informer
    on_synced: when everything was listed once
    on_stop:   what was followed is not known any more
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Informer],
        on_synced: Callable[[], None],
        on_stop: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._build, self._clock = name, build, clock
        self._on_synced, self._on_stop = on_synced, on_stop
        self._informer: Informer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unneeded_since: float | None = None

    @property
    def is_running(self) -> bool:
        return self._informer is not None

    @property
    def is_synced(self) -> bool:
        return self._informer is not None and self._informer.synced.is_set()

    def need(self, needed: bool, group: asyncio.TaskGroup) -> float | None:
        """Seconds until it should be called again, to stop then; None when there is nothing to wait for."""
        if needed:
            self._unneeded_since = None
            if self._informer is None:
                self._start(group)
        elif self._informer is not None:
            if self._unneeded_since is None:
                self._unneeded_since = self._clock()
            left_s = self._unneeded_since + LINGER_S - self._clock()
            if left_s > 0:
                return left_s
            self._stop()
        return None

    def _start(self, group: asyncio.TaskGroup) -> None:
        informer = self._informer = self._build()
        self._tasks = [
            group.create_task(informer.run(), name=self._name),
            group.create_task(self._tell(informer), name=f"first {self._name}"),
        ]

    async def _tell(self, informer: Informer) -> None:
        await informer.synced.wait()
        self._on_synced()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._informer, self._tasks, self._unneeded_since = None, [], None
        self._on_stop()
