"""The watches of the pods that are bound to Nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, StoreOptions
from vk_provider.kube.paths import PODS, field_selector
from vk_provider.node.watch_check import describe_watch

OnPod = Callable[[str, str, Json], None]
"""(node, kind of the event, pod), see Informer."""

STOP_LIMIT_S = 2.0


class PodWatches:
    """One watch a Node."""

    def __init__(self, client: KubeClient, nodes: Iterable[str], on_pod: OnPod) -> None:
        self._informers = {
            node: Informer(
                client, PODS, field_selector(spec__nodeName=node), partial(on_pod, node), store=StoreOptions(keep=False)
            )
            for node in nodes
        }

    @property
    def are_synced(self) -> bool:
        """Whether the pods of all Nodes were listed."""
        return all(informer.synced.is_set() for informer in self._informers.values())

    def find_problem(self, node: str, answering_since: float) -> str:
        """ "" or why the Node is not ready. answering_since: as of `describe_watch`."""
        informer = self._informers[node]
        if not informer.synced.is_set():
            return "the pods of the node are not listed yet"
        return describe_watch(informer.failing_since, informer.error, answering_since, time.monotonic())

    async def start(self, supervisor: Supervisor) -> None:
        """Returns once the pods of all Nodes were listed."""
        for node, informer in self._informers.items():
            supervisor.start(f"pods of {node}", informer.run())
        for informer in self._informers.values():
            await informer.synced.wait()

    async def stop(self, supervisor: Supervisor) -> None:
        await supervisor.cancel([f"pods of {node}" for node in self._informers], limit_s=STOP_LIMIT_S)
