"""The provider process: prepare, lead, stop.

prepare (`foundation`): API server -> Services -> identity -> cloud. Nothing that a second provider could not have as
                        well.
lead (`leader`):        the cloud's instances -> ports -> pods listed -> adoption -> Nodes. Root tasks run under one
                        supervisor; a standby would wait before this phase.
stop:                   back, in the reverse order (`aiokit.stopsteps`): streams -> watches of pods -> work queues and
                        status PATCHes -> events -> clients. Instances keep running, and the Nodes stay Ready until
                        their Leases expire: a restart must not remove running pods from their Services.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal

import uvloop

from vk_provider import __version__
from vk_provider.aiokit import memory, openfiles
from vk_provider.aiokit.loop_errors import handle_loop_error
from vk_provider.aiokit.stopsteps import StopSteps
from vk_provider.aiokit.supervisor import RootTaskError, Supervisor
from vk_provider.foundation import Foundation, prepare
from vk_provider.leader import Leader, build_leader
from vk_provider.logs import set_up_logging
from vk_provider.settings import Settings

log = logging.getLogger(__name__)

START_CANCEL_LIMIT_S = 10.0
LARGE_BYTES, SPARE_BYTES = 1 << 20, 4 << 20
"""Pages of lists are larger. Every read of a TLS connection wants 256 kB for a moment: that comes from the heap."""

COLLECTIONS = (10_000, 0, 4_500)
"""Of gc.set_threshold. Every second collection is of the middle generation, which so never holds more than 20,000
objects: some 10 ms, and 50 on a busy machine (a million, which 4,000 new pods make, would stop the loop for 250 ms). An
object is looked at one and a half times. A young generation of 5,000 takes what is in flight in a burst for
long-lived."""


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises BadStartError."""
    set_up_logging(settings.logs)
    openfiles.raise_limit()
    memory.return_large_blocks(LARGE_BYTES)
    memory.keep_spare(SPARE_BYTES)
    memory.share_one_arena()
    try:
        return uvloop.run(_run(settings))
    except RootTaskError as error:
        log.critical("%s", error, exc_info=error.__cause__)
        return 1


async def _run(settings: Settings) -> int:
    provider = Provider(settings)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, provider.supervisor.request_stop)
    starting = asyncio.create_task(provider.start(), name="start")
    watching = asyncio.create_task(provider.supervisor.wait(), name="supervisor")
    try:
        # A start may wait for the cloud or the API server without limit: signals and failed root tasks must end it.
        await asyncio.wait({starting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not watching.done():
            starting.result()
        await watching
    finally:
        starting.cancel()
        watching.cancel()
        await asyncio.wait({starting, watching}, timeout=START_CANCEL_LIMIT_S)
        await provider.stop()
    return 0


class Provider:
    """`start` returns when everything runs; the supervisor then holds the root tasks. leader: once it was built."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor()
        self.leader: Leader | None = None
        self._stops = StopSteps()

    async def start(self) -> None:
        """Raises BadStartError; `stop` then ends what was started."""
        await self.lead(await self.prepare())
        settle_heap()
        names = ", ".join(node.name for node in self.settings.nodes)
        log.info("vk-provider %s runs %s on the %s cloud", __version__, names, self.settings.cloud.backend)

    async def prepare(self) -> Foundation:
        """The first phase, see `foundation`."""
        return await prepare(self.settings, self.supervisor, self._stops)

    async def lead(self, base: Foundation) -> None:
        """The second phase, see `leader`."""
        self.leader = await build_leader(base, self.supervisor, self._stops)
        await self.leader.start(self.supervisor, self._stops)

    async def stop(self) -> None:
        """From any phase, also from the midst of one. Every step has a time limit; a failure is logged and the next
        step is taken."""
        await self._stops.run()


def settle_heap() -> None:
    """A large heap of long-lived dicts: the objects that exist now are excluded from garbage collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
