"""One launch call, until its outcome is known.

A call without an answer, or with one that says that anything may have happened, is looked up in a new listing by its
tag, and repeated unchanged if it is not there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Cloud, Instance, LaunchAnswer, LaunchFailure
from vk_provider.errors import CloudError, CloudThrottledError
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.pace import Pace
from vk_provider.instances.request import LaunchCall
from vk_provider.instances.table import InstanceTable

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 16
RETRY_FIRST_S, RETRY_MAX_S = 0.2, 30.0
_NOTHING = LaunchAnswer(())


class LaunchCalls:
    """pace: when calls have their turn. tell: what those who wait for a call are told while its outcome is unknown."""

    def __init__(
        self,
        cloud: Cloud,
        table: InstanceTable,
        metrics: InstanceMetrics,
        tell: Callable[[LaunchCall, Exception], None],
    ) -> None:
        self._cloud = cloud
        self._table = table
        self._metrics = metrics
        self._tell = tell
        self.pace = Pace(CALLS_AT_ONCE)
        self.unheard: set[str] = set()
        """Launch IDs of calls that this process has made, and none before it, while nobody knows what they brought."""

    async def find_outcome(self, call: LaunchCall, is_wanted: Callable[[], bool]) -> LaunchAnswer | None:
        """None when nothing was done, and when nobody waits for what may have been done: a sweep finds it."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        if not call.is_inherited:
            self.unheard.add(call.launch_id)
        while True:
            try:
                async with self.pace.turn():
                    return self._hear(call, await self._cloud.launch(call.request))
            except CloudThrottledError as error:
                log.warning("launches wait: %s", error)
                self._hear(call)
                return None  # what waits by then goes into the next call together
            except CloudError as error:
                if not error.effect_unknown:
                    failure = LaunchFailure(call.request.offerings[0], error)
                    return self._hear(call, LaunchAnswer((), (failure,)))
                problem: Exception = error
            except Exception as error:
                problem = error
                log.debug("traceback", exc_info=error)
            self._metrics.launches.labels("failed").inc()
            delay_s = backoff.next_delay_s()
            log.warning("the outcome of a launch is not known, looked up in %.1f s: %s", delay_s, problem)
            self._tell(call, problem)
            await asyncio.sleep(delay_s)
            found = await self._look_up(call)
            if len(found) >= call.request.count:
                return self._hear(call, LaunchAnswer(tuple(found)))
            if not is_wanted():
                return LaunchAnswer(tuple(found)) if found else None

    def _hear(self, call: LaunchCall, answer: LaunchAnswer = _NOTHING) -> LaunchAnswer:
        """All of it is known."""
        self.unheard.discard(call.launch_id)
        return answer

    async def _look_up(self, call: LaunchCall) -> list[Instance]:
        try:
            return await self._table.find_launch(call.launch_id)
        except CloudError as error:
            log.warning("the instances of a launch cannot be looked up: %s", error)
            return []
