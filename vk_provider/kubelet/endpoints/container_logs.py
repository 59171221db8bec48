"""/containerLogs/{namespace}/{pod}/{container}: from the agent while the instance lives, else from the archive."""

from __future__ import annotations

import asyncio
import contextlib
import time

from aiohttp import web

from vk_provider.agentclient.base import AgentResponse
from vk_provider.crilog.options import LogOptions, LogOptionsError, parse_log_options, refuse_stream
from vk_provider.crilog.reader import LogFileError, LogReader
from vk_provider.crilog.source import LogUnavailableError, find_container_spec, select_log_source
from vk_provider.errors import AgentError
from vk_provider.kubelet.api import KubeletApi, require_get
from vk_provider.kubelet.provider import PodHandle
from vk_provider.wire import routes

_PASSED = (
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "tail",
    "limitBytes",
)


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await get_container_logs(api, request)

    app.router.add_route("*", "/containerLogs/{namespace}/{pod}/{container}", handle)


async def get_container_logs(api: KubeletApi, request: web.Request) -> web.StreamResponse:
    """Check in the kubelet's order; the agent, which has the newest status, makes the last checks."""
    require_get(request)
    name, container = request.match_info["pod"], request.match_info["container"]
    query = list(request.query.items())
    try:
        options = parse_log_options(query)
        handle = api.find_pod(request)
        if handle is None:
            return web.Response(status=404, text=f'pod "{name}" does not exist')
        if find_container_spec(handle.pod, container) is None:
            return web.Response(status=404, text=f'container "{container}" not found in pod "{name}"')
        refuse_stream(query)
    except LogOptionsError as error:
        return web.Response(status=error.status, text=str(error))
    unreachable = ""
    if handle.instance is not None:
        passed = [("container", container), *((key, value) for key, value in query if key in _PASSED)]
        try:
            upstream = await api.connector.request(handle.instance, "GET", routes.LOGS, passed)
        except AgentError as error:
            unreachable = f"instance {handle.instance.instance_id} does not answer: {error}"
        else:
            return await relay(request, upstream)
    return await _answer_without_instance(request, handle, container, options, unreachable)


async def relay(request: web.Request, upstream: AgentResponse) -> web.StreamResponse:
    """Forward an agent's answer as it arrives."""
    try:
        response = web.StreamResponse(status=upstream.status)
        response.headers["Content-Type"] = upstream.headers.get("Content-Type", "text/plain; charset=utf-8")
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            try:
                async for chunk in upstream.iter_any():
                    await response.write(chunk)
            except AgentError as error:
                await response.write(f"{error}\n".encode())
            await response.write_eof()
        return response
    finally:
        await upstream.close()


async def _answer_without_instance(
    request: web.Request, handle: PodHandle, container: str, options: LogOptions, unreachable: str
) -> web.StreamResponse:
    name = handle.pod["metadata"]["name"]
    try:
        source = select_log_source(name, handle.status, container, options.previous)
    except LogUnavailableError as error:
        return web.Response(status=400, text=str(error))
    path = handle.archive.read(container, options.previous) if handle.archive is not None else None
    if path is None:
        if unreachable:
            return web.Response(status=500, text=unreachable)
        # A kubelet has sent its headers by then, so the error is the body of a 200.
        return web.Response(text=f"unable to retrieve container logs for {source}")
    return await _send_archived(request, path, options)


async def _send_archived(request: web.Request, path: str, options: LogOptions) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    # The container has terminated: following means reading to the end.
    reader: LogReader | None = None
    with contextlib.suppress(ConnectionError):
        try:
            reader = LogReader(path, options, time.time_ns())
            while reader.pending:
                text = reader.read()
                if text:
                    await response.write(text)
                # A fast client would otherwise never yield to the loop.
                await asyncio.sleep(0)
        except LogFileError as error:
            await response.write(str(error).encode())
        finally:
            if reader is not None:
                reader.close()
        await response.write_eof()
    return response
