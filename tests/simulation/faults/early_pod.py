"""A pool's instance is given a pod before it is marked as taken."""

from __future__ import annotations

from vk_provider.instances.demand import Demand
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.tagging import Tagging


def put_back() -> None:
    right = Tagging.put

    def put(self: Tagging, owned: OwnedInstance, demand: Demand) -> None:
        right(self, owned, demand)
        owned.unmarked = False

    Tagging.put = put
