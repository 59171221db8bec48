"""Turns at registries: users name the hosts, and those that hang take no turn from those that answer.

Hosts that have answered promptly share their own turns. The others, new ones among them, share fewer, and none of them
has more than its part; one that has hung is one of these for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vk_provider.errors import VkError

PROMPT_S = 2.0
"""An answer that takes longer is as good as none."""
DOUBTED_S = 60.0
"""A host that has hung is not among the prompt ones for so long."""
MAX_HOSTS = 1000
"""That are remembered; the one that was asked longest ago is forgotten."""


@dataclass(slots=True)
class _Lane:
    """turns: at once for all its hosts, of_host: and for each; hosts: those that are asked or wait, with how many."""

    turns: asyncio.Semaphore
    of_host: int
    hosts: dict[str, tuple[asyncio.Semaphore, int]] = field(default_factory=dict)

    @asynccontextmanager
    async def queue(self, host: str) -> AsyncIterator[None]:
        """One of the turns of the host."""
        own, count = self.hosts.get(host, (asyncio.Semaphore(self.of_host), 0))
        self.hosts[host] = own, count + 1
        try:
            async with own:
                yield
        finally:
            own, count = self.hosts.pop(host)
            if count > 1:
                self.hosts[host] = own, count - 1


class Lanes:
    """clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prompt, self._other = _Lane(asyncio.Semaphore(16), 8), _Lane(asyncio.Semaphore(8), 2)
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._doubted: OrderedDict[str, float] = OrderedDict()

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """One request to the host. A VkError, too, is an answer."""
        if host not in self._answered:
            async with self._other.queue(host):
                if host not in self._answered:  # else those that have waited go on with the prompt ones
                    async with self._other.turns, self._noting(host):
                        yield
                    return
        async with self._prompt.queue(host), self._prompt.turns, self._noting(host):
            yield

    @asynccontextmanager
    async def _noting(self, host: str) -> AsyncIterator[None]:
        began = self._clock()
        try:
            yield
        except VkError:
            self._note(host, self._clock() - began <= PROMPT_S)
            raise
        except asyncio.CancelledError:  # a pod that is deleted at once says nothing of the host that its image names
            if self._clock() - began > PROMPT_S:
                self._note(host, False)
            raise
        except BaseException:
            self._note(host, False)
            raise
        self._note(host, self._clock() - began <= PROMPT_S)

    def _note(self, host: str, is_prompt: bool) -> None:
        now = self._clock()
        self._answered.pop(host, None)
        if not is_prompt:
            self._doubted[host] = now + DOUBTED_S
            self._doubted.move_to_end(host)
        elif self._doubted.get(host, now) <= now:
            self._doubted.pop(host, None)
            self._answered[host] = None
        for kept in (self._answered, self._doubted):
            if len(kept) > MAX_HOSTS:
                kept.popitem(last=False)
