"""One instance that cannot be terminated fails the whole call, and whoever asked waits until it succeeds."""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import CloudError
from vk_provider.pods import termination
from vk_provider.pods.termination import InstanceTerminator, OnStuck


def put_back() -> None:
    async def terminate(self: InstanceTerminator, instance_ids: Sequence[str]) -> list[None | Exception]:
        results = await self._cloud.terminate(list(instance_ids))
        for result in results:
            if result is not None:
                raise result
        return list(results)

    async def end(self: InstanceTerminator, instance_id: str, on_stuck: OnStuck = lambda message: None) -> bool:
        backoff = Backoff(termination.RETRY_FIRST_S, termination.RETRY_MAX_S)
        while True:
            try:
                await self._batch.submit(instance_id)
                return True
            except CloudError:
                await termination.asyncio.sleep(backoff.next_delay_s())

    InstanceTerminator._terminate = terminate  # type: ignore[method-assign]
    InstanceTerminator.end = end  # type: ignore[method-assign]
