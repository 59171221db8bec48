"""Pods that start on two Nodes in turn, ours and a real kubelet: from the create request to Ready, in one namespace."""

from __future__ import annotations

import asyncio
import time

from tests.bench.api import Api
from vk_provider.jsontypes import Json

LIMIT_S = 600.0
NAMESPACE = "default"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


class Starts:
    """`open` and `close` around all; one measurement at a time."""

    def __init__(self, api: Api, namespace: str = NAMESPACE) -> None:
        self._api = api
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self._ready: dict[str, float] = {}
        self._there: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        opened = asyncio.Event()
        self._task = asyncio.create_task(self._api.watch(self.pods, self._on_event, opened), name="watch pods")
        await opened.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_event(self, kind: str, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if kind == "DELETED":
            self._there.discard(name)
            self._ready.pop(name, None)
        else:
            self._there.add(name)
            conditions = pod["status"].get("conditions", ())
            if name not in self._ready and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                self._ready[name] = time.perf_counter()
        self._changed.set()

    async def start_pod(self, name: str, node: str, image: str) -> float:
        """Seconds from the request to Ready. The pod stays."""
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": _pod_spec(node, image)}
        began = time.perf_counter()
        await self._api.call("POST", self.pods, body)
        await self._wait(1)
        return max(self._ready.values()) - began

    async def start_deployment(self, name: str, node: str, image: str, count: int) -> float:
        """Seconds from the request for the Deployment to the last pod's Ready. It stays."""
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": _pod_spec(node, image)}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": count, "selector": {"matchLabels": labels}, "template": template},
        }
        began = time.perf_counter()
        await self._api.call("POST", DEPLOYMENTS, body)
        await self._wait(count)
        return max(self._ready.values()) - began

    async def remove(self, *paths: str) -> None:
        """Delete pods or Deployments by path, and wait until no pod is there."""
        for path in paths:
            await self._api.call("DELETE", f"{path}?propagationPolicy=Background")
        await self._until(lambda: not self._there)

    async def _wait(self, count: int) -> None:
        await self._until(lambda: len(self._ready) >= count)

    async def _until(self, holds: object) -> None:
        assert self._task is not None and callable(holds)
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({changed, self._task}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._task.done():
                    self._task.result()
                    raise ConnectionError(f"the watch of {self.pods} ended")


def _pod_spec(node: str, image: str) -> Json:
    """Bound through the scheduler, as pods of users are."""
    return {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": image, "command": ["sleep", "100000"]}],
    }
