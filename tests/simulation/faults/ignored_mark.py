"""A pool's instance whose agent says that it is empty is anybody's, although it is marked as taken."""

from __future__ import annotations

from vk_provider.instances.instance import OwnedInstance


def put_back() -> None:
    OwnedInstance.is_for_anybody = property(lambda self: bool(self.pool))
