"""An event loop in virtual time that knows to which process each callback belongs.

The time jumps to the next timer when nothing is ready. Everything that code of a process schedules (tasks, timers,
executors, callbacks of futures) inherits the context variable PROCESS; a process that was killed runs none of it any
more. What the world does for itself is scheduled in a context without a process.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Protocol
from weakref import WeakSet

from tests.simulation.clock import CLOCK, VirtualClock

EXECUTOR_S = 0.002
"""A call that is given to a thread is made, at once, after so long."""

STEP_S = 1e-6
"""What a callback takes: whoever looks again after a rest that rounding has left over sees a later time."""
IN_ORDER_S = 1e-5
"""Between two timers that must fire in their order: those of one time fire in any."""


class Process(Protocol):
    """`is_dead`: nothing of it runs any more. `tasks`: those of it that exist."""

    is_dead: bool
    tasks: WeakSet[asyncio.Task[Any]]

    def step(self) -> None:
        """A callback of the process is about to run; it may die instead."""


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class NothingLeftError(RuntimeError):
    """Nothing is ready and no timer runs: everybody waits for ever."""


class SimulationLoop(asyncio.BaseEventLoop):
    """`on_error(process, context)`: what an event loop's exception handler is called with. `steps`: callbacks run.

    effects: how often something happened that a process does not take with it when it dies: between two steps of it
             with the same count, everything outside stayed as it was
    """

    def __init__(self, on_error: Callable[[Process | None, dict[str, Any]], None], clock: VirtualClock = CLOCK) -> None:
        super().__init__()
        self._clock = clock
        self._on_error = on_error
        self.steps = self.effects = 0
        self.signals: dict[int, Callable[[], None]] = {}

    # --- time and order --------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._clock.now

    def _run_once(self) -> None:
        """One turn: due timers, then all callbacks that are ready now."""
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._drop_timer()
        if not ready and not self._stopping:
            if not scheduled:
                raise NothingLeftError
            self._clock.now = max(self._clock.now, scheduled[0]._when)
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._clock.now):
            handle = self._drop_timer()
            if not handle._cancelled:
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None:
                if process.is_dead:
                    continue
                process.step()
                if process.is_dead:
                    continue
            else:
                self.effects += 1
            self.steps += 1
            self._clock.now += STEP_S
            handle._run()

    def _drop_timer(self) -> Any:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they are due: there are few."""

    def _write_to_self(self) -> None:
        """No other thread ever wakes this loop."""

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        process = context.get(PROCESS) if context is not None else PROCESS.get()
        if process is not None:
            process.tasks.add(task)
        return task

    # --- what a loop of a real process has -------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """No threads: the call is made in a later turn, of the same process."""
        future: asyncio.Future[Any] = self.create_future()

        def call() -> None:
            self.effects += 1
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(EXECUTOR_S, call)
        return future

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        self.signals[sig] = lambda: callback(*args)

    def set_exception_handler(self, handler: Any) -> None:
        """The simulation judges what a loop reports."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(PROCESS.get(), context)


# --- the world outside of all processes -------------------------------------------------------------------------------

_OUTSIDE = Context()
"""Without a process: what is scheduled in it goes on after the process that asked for it was killed."""


def outside_soon(callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
    """call_soon of the running loop for the world."""
    return _outside().call_soon(callback, *args, context=_OUTSIDE)


def outside_later(delay_s: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
    return _outside().call_later(delay_s, callback, *args, context=_OUTSIDE)


def _outside() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimulationLoop):
        loop.effects += 1
    return loop


class Reply:
    """What a process waits for from the world. Nobody gets it once the process was killed."""

    def __init__(self) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._process = PROCESS.get()

    def deliver(self, result: Any) -> None:
        """An exception is raised where it is waited for."""
        if self._future.done() or (self._process is not None and self._process.is_dead):
            return
        if isinstance(result, Exception):
            self._future.set_exception(result)
        else:
            self._future.set_result(result)

    async def wait(self) -> Any:
        return await self._future
