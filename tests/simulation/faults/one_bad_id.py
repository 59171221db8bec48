"""One instance that cannot be terminated fails the whole call, and whoever asked waits until it succeeds."""

from __future__ import annotations

import asyncio
import time

from vk_provider.errors import CloudError
from vk_provider.instances import ends
from vk_provider.instances.ends import Ends, OnStuck


def put_back() -> None:
    async def run(self: Ends) -> None:
        while self._queue:
            batch = list(self._queue.values())
            self._queue.clear()
            problem: Exception | None
            try:
                results = await self._cloud.terminate([ending.instance_id for ending in batch])
                problem = next((result for result in results if result is not None), None)
            except CloudError as error:
                problem = error
            for ending in batch:
                if problem is None:
                    self._note(ending, None)
                else:
                    self._tasks.spawn(self._again(ending), "again")

    async def end(self: Ends, instance_id: str, why: str, on_stuck: OnStuck = lambda message: None) -> bool:
        ending = self._endings.get(instance_id)
        if ending is None:
            tried = asyncio.get_running_loop().create_future()
            ending = self._endings[instance_id] = ends._Ending(instance_id, on_stuck, time.monotonic(), tried)
            self._put(ending)
        return await asyncio.shield(ending.tried)

    Ends._run = run
    Ends.end = end
