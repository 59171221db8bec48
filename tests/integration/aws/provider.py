"""A provider's rooms on EC2: pods and instances as in production, agents that answer at once, moto's server for AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.moto.booted import BootedAws
from tests.moto.server import Account, MotoServer
from tests.unit.pods.rig import OWNER, Connector, World
from vk_provider.cloud.aws.backend import BACKEND
from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json


class AwsWorld(World):
    """A World whose cloud is EC2."""

    def __init__(self, directory: Path, cloud: BootedAws) -> None:
        super().__init__(directory)
        self.cloud: Any = cloud
        self.connector = Connector(self.cloud)
        self.ability = BACKEND.ability
        self.node = {
            "metadata": {"labels": {}},
            "status": {"allocatable": {"cpu": "100k", "memory": "100Ti", "pods": "10k"}},
        }

    def running_count(self) -> int:
        return sum((pod.get("status") or {}).get("phase") == "Running" for pod in self.api.pods.values())

    def add_pods(self, count: int, **resources: str) -> None:
        """Of one shape; resources: requests."""
        for _ in range(count):
            pod = self.pod()
            pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1", **resources}}
            self.api.add(pod)

    def live_of(self, pod: Json) -> list[Instance]:
        """Those that the provider has given to the pod."""
        uid = pod["metadata"]["uid"]
        return [each.described for each in self.room.table.owned.values() if each.pod_uid == uid]

    async def until_running(self, count: int, limit_s: float) -> None:
        def all_running() -> bool:
            failed = [pod["status"] for pod in self.api.pods.values() if pod["status"].get("phase") == "Failed"]
            assert not failed, failed[0]
            return self.running_count() == count

        await self.until(all_running, limit_s)


@asynccontextmanager
async def provider(directory: Path, moto: MotoServer, account: Account, **more: Any) -> AsyncIterator[AwsWorld]:
    cloud = BootedAws(moto.settings(account, **more), OWNER)
    await cloud.start()
    world = AwsWorld(directory, cloud)
    try:
        await world.start()
        try:
            yield world
        finally:
            await world.stop()
    finally:
        await cloud.close()
