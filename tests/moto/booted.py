"""EC2 whose instances' agents live in the provider's process and answer as soon as they are dialled."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.simulated.config import SimulationConfig


class BootedAws(AwsCloud):
    """What a SimulatedConnector asks of its cloud beside the Protocol."""

    def __init__(self, settings: AwsCloudSettings, owner: str) -> None:
        super().__init__(settings, owner)
        self.config = SimulationConfig()
        self.on_gone: Callable[[str], None] = lambda instance_id: None

    def is_booted(self, instance_id: str) -> bool:
        return True
