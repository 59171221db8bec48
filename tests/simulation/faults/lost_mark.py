"""A call that marks a pool's instance and fails is not repeated, and its pod waits for the mark."""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.errors import CloudError
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.tagging import Tagging


def put_back() -> None:
    async def mark(self: Tagging, owned: OwnedInstance, tags: Mapping[str, str]) -> None:
        try:
            async with self._mark_pace.turn():
                await self._cloud.create_tags([owned.instance_id], tags)
        except CloudError as error:
            self.on_marked(owned, error)
            return
        owned.unmarked = False
        self.on_marked(owned, None)

    Tagging._mark = mark
