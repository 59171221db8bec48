"""A lean API server client for measuring: what it costs is the same for everything that is compared."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
import orjson

from tests.cluster.controlplane import ControlPlane
from vk_provider.jsontypes import Json

CONNECTIONS = 64


class Api:
    """The API server as the administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        self._context = ssl.create_default_context(cafile=str(plane.ca))
        self._context.load_cert_chain(plane.state.pki / "admin.crt", plane.state.pki / "admin.key")
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        self._session = aiohttp.ClientSession(plane.url, connector=connector)

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Json | None = None, content_type: str = "") -> Json:
        """One request; raises aiohttp.ClientResponseError on a status of 400 or more."""
        headers = {"Content-Type": content_type or "application/json"} if body is not None else {}
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise aiohttp.ClientResponseError(
                    answer.request_info, answer.history, status=answer.status, message=raw[:300].decode()
                )
            document: Json = orjson.loads(raw)
            return document

    async def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        try:
            await self.call("GET", path)
        except aiohttp.ClientResponseError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def text(self, url: str) -> str:
        """The body at a path, or at a URL of another server of the cluster (a node's kubelet API)."""
        async with self._session.get(url, raise_for_status=True) as answer:
            return await answer.text()

    async def watch(self, path: str, on_event: Callable[[str, Json], None], opened: asyncio.Event) -> None:
        """Call `on_event(kind, object)` until cancelled; starts at the newest version. The API server ends a watch
        whose reader falls behind: go on where it ended."""
        version = (await self.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            query = {"watch": "1", "resourceVersion": version}
            async with self._session.get(path, params=query, timeout=timeout, raise_for_status=True) as answer:
                opened.set()
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            raise ConnectionError(f"watch of {path}: {event['object']}")
                        version = event["object"]["metadata"]["resourceVersion"]
                        on_event(event["type"], event["object"])


async def make_namespace(api: Api, name: str) -> str:
    """A namespace with its service account, so that pods can be created."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await api.call("POST", "/api/v1/namespaces", namespace)
    async with asyncio.timeout(60):
        for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
            while not await api.exists(f"/api/v1/namespaces/{name}/{path}"):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.1)
    return name


async def run_all(steps: Iterable[Callable[[], Awaitable[Any]]], at_once: int = CONNECTIONS) -> None:
    """Run every step, `at_once` at a time."""
    waiting = iter(list(steps))

    async def work() -> None:
        for step in waiting:
            await step()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


class PodTimes:
    """Follows the pods of one namespace: when each was created, was seen Running, was seen gone (perf_counter)."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.path = f"/api/v1/namespaces/{namespace}/pods"
        self._api = api
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.created: dict[str, float] = {}
        self.running: dict[str, float] = {}
        self.gone: dict[str, float] = {}

    async def start(self) -> None:
        opened = asyncio.Event()
        self._task = asyncio.create_task(self._api.watch(self.path, self._on_event, opened), name="watch pods")
        await opened.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_event(self, kind: str, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if kind == "DELETED":
            self.gone[name] = time.perf_counter()
        elif name not in self.running and (pod.get("status") or {}).get("phase") == "Running":
            self.running[name] = time.perf_counter()
        else:
            return
        self._changed.set()

    async def create(self, pod: Json) -> None:
        self.created[pod["metadata"]["name"]] = time.perf_counter()
        await self._api.call("POST", self.path, pod)

    async def delete(self, name: str) -> None:
        await self._api.call("DELETE", f"{self.path}/{name}")

    async def wait_running(self, name: str, limit_s: float) -> None:
        """Until this pod runs, whatever the others of the namespace do."""
        async with asyncio.timeout(limit_s):
            while name not in self.running:
                await self.wait(self.running, len(self.running) + 1, limit_s)

    async def wait(self, times: dict[str, float], count: int, limit_s: float) -> None:
        """Until `count` pods are in `times` (running or gone)."""
        assert self._task is not None
        async with asyncio.timeout(limit_s):
            while len(times) < count:
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({changed, self._task}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._task.done():
                    self._task.result()
                    raise ConnectionError(f"the watch of {self.path} ended")
