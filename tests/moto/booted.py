"""EC2 whose instances' agents live in the provider's process and answer as soon as they are dialled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.base import InstancePage, InstanceState, StateResult
from vk_provider.cloud.simulated.config import SimulationConfig


class BootedAws(AwsCloud):
    """What a SimulatedConnector asks of its cloud beside the Protocol."""

    def __init__(self, settings: AwsCloudSettings, owner: str) -> None:
        super().__init__(settings, owner)
        self.config = SimulationConfig()
        self.on_gone: Callable[[str], None] = lambda instance_id: None
        self.on_stopped: Callable[[str], None] = lambda instance_id: None
        self._down: set[str] = set()

    def is_booted(self, instance_id: str) -> bool:
        return instance_id not in self._down

    async def list_page(self, page: str = "") -> InstancePage:
        """A start that nobody was told of is one."""
        answer = await super().list_page(page)
        for instance in answer.instances:
            if instance.state in (InstanceState.PENDING, InstanceState.RUNNING):
                self._down.discard(instance.instance_id)
            elif instance.state.has_stopped:
                self._down.add(instance.instance_id)
        return answer

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        results = await super().stop_instances(instance_ids)
        for instance_id, failure in zip(instance_ids, results, strict=True):
            if failure is None:
                self._down.add(instance_id)
                self.on_stopped(instance_id)
        return results

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        results = await super().start_instances(instance_ids)
        started = [each for each, failure in zip(instance_ids, results, strict=True) if failure is None]
        self._down.difference_update(started)
        return results
