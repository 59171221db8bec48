"""GET /v1/logs: the log of one container, read from its CRI log file, optionally followed while it runs.

A follower sleeps on inotify of the log directory and wakes at most every COALESCE_S, however often the container
writes. The container's end is seen when the runtime closes the log file, or at the latest after CHECK_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from vk_provider.agent.view import PodView, is_running_id
from vk_provider.aiokit.inotify import IN_CLOSE_WRITE, Inotify
from vk_provider.crilog.options import LogOptions, LogOptionsError, parse_log_options, refuse_stream
from vk_provider.crilog.reader import LogFileError, LogReader, read_raw
from vk_provider.crilog.source import LogUnavailableError, select_log_source, trim_container_scheme
from vk_provider.errors import AgentError
from vk_provider.wire import routes

if TYPE_CHECKING:
    from vk_provider.agent.runtime import ContainerRuntime

COALESCE_S = 0.02
CHECK_S = 2.0
CHECK_WITHOUT_INOTIFY_S = 0.5
CLOSED_CHECK_S = 0.05
ROTATION_S = 0.05

DEFAULT_RAW_BYTES = 10 * 2**20

IsRunning = Callable[[], Awaitable[bool]]


def add_log_routes(app: web.Application, view: PodView, runtime: ContainerRuntime) -> None:
    """Install the log route of the agent's server."""
    handler = LogHandler(view, runtime)
    app.router.add_get(routes.LOGS, handler.handle)


class LogHandler:
    """Serves logs with the kubelet's checks, codes and bodies."""

    def __init__(self, view: PodView, runtime: ContainerRuntime) -> None:
        self._view, self._runtime = view, runtime
        self._inotify = Inotify()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = list(request.query.items())
        name = request.query.get("container", "")
        try:
            options = parse_log_options(query)
            pod_name = self._check_container(name)
            refuse_stream(query)
            source = select_log_source(pod_name, self._view.status, name, options.previous)
        except LogOptionsError as error:
            return web.Response(status=error.status, text=str(error))
        except LogUnavailableError as error:
            return web.Response(status=400, text=str(error))
        except LookupError as error:
            return web.Response(status=404, text=str(error.args[0]))
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            if request.query.get("raw") == "true":
                texts = self._read_raw(source, int(request.query.get("maxBytes") or DEFAULT_RAW_BYTES))
            else:
                texts = self._read(source, options, request)
            async for text in texts:
                await response.write(text)
            await response.write_eof()
        return response

    def _check_container(self, name: str) -> str:
        pod = self._view.pod
        if pod is None:
            raise LookupError("pod does not exist")
        pod_name = str(pod["metadata"]["name"])
        if self._view.container_spec(name) is None:
            raise LookupError(f'container "{name}" not found in pod "{pod_name}"')
        return pod_name

    async def _read_raw(self, source: str, max_bytes: int) -> AsyncIterator[bytes]:
        """The file as it is, or its last lines within max_bytes: what the provider archives."""
        path = self._view.log_path(trim_container_scheme(source))
        if path is None:
            return
        with contextlib.suppress(OSError):
            for block in read_raw(path, max_bytes):
                yield block
                await asyncio.sleep(0)

    async def _read(self, source: str, options: LogOptions, request: web.Request) -> AsyncIterator[bytes]:
        container_id = trim_container_scheme(source)
        path = self._view.log_path(container_id)
        if path is None:
            yield f"unable to retrieve container logs for {source}".encode()
            return

        async def is_running() -> bool:
            # While the container writes nothing, a follower cannot detect a closed connection by writing.
            client = request.transport
            return client is not None and not client.is_closing() and await self._is_running(container_id)

        try:
            async for text in read_log(path, options, is_running, self._inotify):
                yield text
        except LogFileError as error:
            yield str(error).encode()

    async def _is_running(self, container_id: str) -> bool:
        # The worker's status is checked first; only the runtime's exit counts, since it has closed the log by then.
        if is_running_id(self._view, container_id):
            return True
        try:
            status = await self._runtime.container_status(container_id)
        except AgentError:
            return True
        return status is not None and int(status.state) == 1


async def read_log(path: str, options: LogOptions, is_running: IsRunning, inotify: Inotify) -> AsyncIterator[bytes]:
    """Yield formatted text of the log at `path` until its end, or while the container runs. Raises LogFileError."""
    reader = LogReader(path, options, time.time_ns())
    try:
        if not options.follow:
            while reader.pending:
                text = reader.read()
                if text:
                    yield text
                await asyncio.sleep(0)
            return
        with inotify.watch(os.path.dirname(reader.path)) as watch:
            running = True
            while True:
                seen = watch.clear()
                text = reader.read()
                if text:
                    yield text
                    continue
                if reader.pending:
                    await asyncio.sleep(0)
                    continue
                if reader.done:
                    return
                if reader.is_rotated():
                    # The runtime makes the new file before it closes the old one: that is read to its very end first.
                    await asyncio.sleep(ROTATION_S)
                    while text := reader.read():
                        yield text
                    reader.reopen()
                    continue
                if not running:
                    return
                # Checked before the next read, so that the last output is still read.
                running = await is_running()
                if running:
                    await _wait(watch.changed, _wait_limit_s(watch.active, seen))
    finally:
        reader.close()


def _wait_limit_s(active: bool, seen_mask: int) -> float:
    if not active:
        return CHECK_WITHOUT_INOTIFY_S
    # The log was closed: a rotation, or the container ends and the runtime is about to say so.
    return CLOSED_CHECK_S if seen_mask & IN_CLOSE_WRITE else CHECK_S


async def _wait(changed: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await changed.wait()
        await asyncio.sleep(COALESCE_S)
