"""A client token stands for pod and attempt, and a request is made anew for each try: changed labels are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.process import current
from vk_provider.cloud.base import TAG_LAUNCH, LaunchAnswer, LaunchFailure, LaunchRequest, Offering
from vk_provider.errors import CloudError, CloudThrottledError
from vk_provider.instances import launches
from vk_provider.instances.calls import LaunchCalls
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.request import BootData, LaunchCall


def put_back() -> None:
    freeze = launches.freeze_request

    def freeze_request(
        group: Group,
        demands: Sequence[Demand],
        owner: str,
        boot_data: BootData,
        number: int = 0,
        offerings: tuple[Offering, ...] = (),
    ) -> LaunchRequest:
        request = freeze(group, demands, owner, boot_data, number, offerings)
        token = f"{demands[0].uid}-{demands[0].attempt}-{number}"
        launch_id, user_data = boot_data(token)
        tags = {**request.tags, TAG_LAUNCH: launch_id}
        return replace(request, client_token=token, tags=tags, user_data=user_data)

    async def find_outcome(self: LaunchCalls, call: LaunchCall, is_wanted: Callable[[], bool]) -> LaunchAnswer | None:
        try:
            async with self.pace.turn():
                return await self._cloud.launch(call.request)
        except CloudThrottledError:
            return None
        except CloudError as error:
            if not error.effect_unknown:
                return LaunchAnswer((), (LaunchFailure(call.request.offerings[0], error),))
        await asyncio.sleep(5.0)
        waiting = current().provider.leader.room.waiting
        for demand in call.demands:
            if demand.group is call.group and waiting.has(demand):
                call.group.waiting.pop(demand.uid, None)
                demand.pod, demand.group = waiting.pods._records[demand.uid].pod, None
                waiting.enlist(demand)
        return None

    launches.freeze_request = freeze_request
    LaunchCalls.find_outcome = find_outcome
