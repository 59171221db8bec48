"""/pods: the PodList of the pods bound to the Node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice

from aiohttp import web

from vk_provider.jsontypes import Json
from vk_provider.kubelet.api import KubeletApi, encode_each, require_get
from vk_provider.kubelet.readers import Readers

BATCH = 200


def add_routes(app: web.Application, api: KubeletApi) -> None:
    readers = Readers()

    async def handle(request: web.Request) -> web.StreamResponse:
        require_get(request)
        async with readers.admit(request):
            return await send_pod_list(request, list(api.source.pods(api.node)))

    app.router.add_route("*", "/pods", handle)
    app.router.add_route("*", "/pods/", handle)


async def send_pod_list(request: web.Request, pods: list[Json]) -> web.StreamResponse:
    """Send a PodList in batches, so that thousands of pods do not block the loop."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[')
    separator = b""
    for batch in _batches(pods):
        if text := b",".join(encode_each(batch, "a pod in the list")):
            await response.write(separator + text)
            separator = b","
        await asyncio.sleep(0)  # a write that is only taken over waits for nobody
    await response.write(b"]}\n")
    await response.write_eof()
    return response


def _batches(pods: Iterable[Json]) -> Iterator[list[Json]]:
    iterator = iter(pods)
    while batch := list(islice(iterator, BATCH)):
        yield batch
