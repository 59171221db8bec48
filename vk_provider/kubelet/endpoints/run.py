"""/run/{namespace}/{pod}[/{uid}]/{container}?cmd=: run a command and return its combined output."""

from __future__ import annotations

import contextlib
from http import HTTPStatus

from aiohttp import web

from vk_provider.errors import AgentError
from vk_provider.kubelet.api import KubeletApi, running_instance
from vk_provider.wire import routes


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await get_run(api, request)

    app.router.add_post("/run/{namespace}/{pod}/{container}", handle)
    app.router.add_post("/run/{namespace}/{pod}/{uid}/{container}", handle)


async def get_run(api: KubeletApi, request: web.Request) -> web.StreamResponse:
    """The agent's answer; the raw output is labelled application/json, as by a kubelet."""
    handle = api.find_pod(request)
    if handle is None:
        return web.Response(status=404, text="pod does not exist")
    container = request.match_info["container"]
    instance = running_instance(handle, request.match_info.get("uid"))
    if instance is None:
        return web.Response(status=500, text=f'container not found ("{container}")')
    query = [("container", container), ("cmd", request.query.get("cmd", ""))]
    try:
        upstream = await api.connector.request(instance, "POST", routes.RUN, query)
    except AgentError as error:
        return web.Response(status=500, text=f"instance {instance.instance_id} does not answer: {error}")
    content_type = "application/json" if upstream.status == HTTPStatus.OK else "text/plain; charset=utf-8"
    # Passed on as it comes: the output of a command, and of an agent that never ends it, has no bound.
    response = web.StreamResponse(status=upstream.status, headers={"Content-Type": content_type})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for chunk in upstream.iter_any():
                await response.write(chunk)
            await response.write_eof()
    except AgentError:
        # The status is sent: a body without its end says that this is not all.
        if request.transport is not None:
            request.transport.abort()
    finally:
        await upstream.close()
    return response
