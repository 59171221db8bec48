"""The Leases of Nodes whose provider cannot start yet."""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.kube.client import KubeClient
from vk_provider.node.lease import NodeLease


class HeldLeases:
    """Renews the Leases that exist, from `hold` to `release`: else the Nodes' pods, which run on, would be evicted."""

    def __init__(self, supervisor: Supervisor, client: KubeClient, nodes: Iterable[str]) -> None:
        self._supervisor, self._client, self._nodes = supervisor, client, tuple(nodes)
        self._tasks: list[str] = []

    def hold(self) -> None:
        """Start; does nothing where it has been called already."""
        if self._tasks:
            return
        for node in self._nodes:
            lease = NodeLease(self._client, node, create=False)
            self._tasks.append(self._supervisor.start(f"held lease of {node}", lease.run()).get_name())

    async def release(self) -> None:
        """Before the Nodes' own Leases begin."""
        tasks, self._tasks = self._tasks, []
        await self._supervisor.cancel(tasks)
