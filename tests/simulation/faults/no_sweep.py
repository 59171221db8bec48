"""Nobody looks for instances that no pod claims."""

from __future__ import annotations

from vk_provider.instances.sweep import OrphanSweep


def put_back() -> None:
    async def sweep(self: OrphanSweep) -> list[str]:
        await self._room.table.refresh()
        return []

    OrphanSweep.sweep = sweep
