"""exec, attach, port-forward and run on the instance.

The upgraded streams go unparsed to the runtime's own streaming server, which speaks SPDY and WebSocket: the CRI call
gives a one-time URL on loopback, and the client's upgrade request is repeated there. Its answer is returned unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from vk_provider.agent.view import PodView, is_running
from vk_provider.aiokit.hijack import build_upgrade_head, is_upgrade, pass_through
from vk_provider.aiokit.pump import Side
from vk_provider.errors import AgentError
from vk_provider.wire import routes
from vk_provider.wire.stream import StreamOptionsError, parse_forward_ports, parse_stream_options

if TYPE_CHECKING:
    from vk_provider.agent.runtime import ContainerRuntime

IDLE_S = 4 * 3600.0
"""A kubelet's streamingConnectionIdleTimeout."""


class StreamRefusal(Exception):
    """Answer before the upgrade: HTTP status and text body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status


def add_stream_routes(app: web.Application, view: PodView, runtime: ContainerRuntime, idle_s: float = IDLE_S) -> None:
    """Install the stream routes of the agent's server."""
    handler = StreamHandler(view, runtime, idle_s)
    for method in ("GET", "POST"):
        app.router.add_route(method, routes.EXEC, handler.handle_exec)
        app.router.add_route(method, routes.ATTACH, handler.handle_attach)
        app.router.add_route(method, routes.PORT_FORWARD, handler.handle_port_forward)
    app.router.add_post(routes.RUN, handler.handle_run)


class StreamHandler:
    """Serves the routes for the one pod of the instance."""

    def __init__(self, view: PodView, runtime: ContainerRuntime, idle_s: float) -> None:
        self._view, self._runtime, self._idle_s = view, runtime, idle_s

    async def handle_exec(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._exec_url)

    async def handle_attach(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._attach_url)

    async def handle_port_forward(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._port_forward_url)

    async def handle_run(self, request: web.Request) -> web.StreamResponse:
        """Run a command to its end; its stdout then stderr, or the error as text with 500."""
        name = request.query.get("container", "")
        command = request.query.get("cmd", "").split(" ")
        try:
            container_id = await self._running_container(name, f'container not found ("{name}")')
            result = await self._runtime.exec_sync(container_id, command, 0)
        except StreamRefusal as refusal:
            return web.Response(status=refusal.status, text=str(refusal))
        except AgentError as error:
            return web.Response(status=500, text=text_of(error))
        if result.exit_code != 0:
            stderr = result.stderr.decode(errors="replace")
            return web.Response(
                status=500, text=f"command '{' '.join(command)}' exited with {result.exit_code}: {stderr}"
            )
        return web.Response(body=result.stdout + result.stderr, content_type="application/json")

    async def _exec_url(self, request: web.Request) -> str:
        options = parse_stream_options(request.query)
        name = request.query.get("container", "")
        container_id = await self._running_container(name, f'container not found ("{name}")')
        command = request.query.getall("command", [])
        return await self._runtime.exec_url(
            container_id, command, options.stdin, options.stdout, options.stderr, options.tty
        )

    async def _attach_url(self, request: web.Request) -> str:
        options = parse_stream_options(request.query)
        name = request.query.get("container", "")
        container_id = await self._running_container(name, f"container {name} not found in pod {self._full_name()}")
        # The terminal was decided when the container was created; the request cannot change it. The runtime refuses
        # a standard error beside it, as on a kubelet (GetAttach in pkg/kubelet/kubelet_pods.go).
        tty = bool((self._view.container_spec(name) or {}).get("tty"))
        return await self._runtime.attach_url(container_id, options.stdin, options.stdout, options.stderr, tty)

    async def _port_forward_url(self, request: web.Request) -> str:
        websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        ports = parse_forward_ports(list(request.query.items())) if websocket else []
        sandbox_id = self._view.sandbox_id
        if not sandbox_id:
            raise StreamRefusal(500, f'pod not found ("{self._full_name()}")')
        return await self._runtime.port_forward_url(sandbox_id, ports)

    def _full_name(self) -> str:
        metadata = (self._view.pod or {}).get("metadata") or {}
        return f"{metadata.get('name', '')}_{metadata.get('namespace', '')}"

    async def _running_container(self, name: str, missing: str) -> str:
        container_id = self._view.container_id(name) if self._view.pod is not None else ""
        if container_id and (is_running(self._view, name) or await self._runs(container_id)):
            return container_id
        raise StreamRefusal(500, missing)

    async def _runs(self, container_id: str) -> bool:
        """Ask the runtime rather than the status, which is Waiting while a postStart hook runs."""
        status = await self._runtime.container_status(container_id)
        return status is not None and int(status.state) == 1

    async def _stream(
        self, request: web.Request, find_url: Callable[[web.Request], Awaitable[str]]
    ) -> web.StreamResponse:
        try:
            if not is_upgrade(request):
                raise StreamRefusal(400, "unable to upgrade: missing upgrade headers in request")
            url = urlsplit(await find_url(request))
            target = url.path + (f"?{url.query}" if url.query else "")
            head = build_upgrade_head(request, target, url.netloc)
            host, port = url.hostname or "127.0.0.1", url.port or 80
            return await pass_through(request, lambda: dial(host, port), head, self._idle_s)
        except StreamOptionsError as error:
            return refuse(400, str(error))
        except StreamRefusal as refusal:
            return refuse(refusal.status, str(refusal))
        except AgentError as error:
            return refuse_runtime(error)
        except OSError as error:
            return refuse(500, f"the container runtime's streaming server does not answer: {error}")


async def dial(host: str, port: int) -> tuple[asyncio.Transport, Side]:
    """Connect to the runtime itself, also where a pod of the Node has this host port. Raises OSError."""
    from vk_provider.serviceproxy.instance import AGENT_MARK  # only for who streams: it takes time

    loop = asyncio.get_running_loop()
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        client.setblocking(False)
        with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN there are no tables of ours, either
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, AGENT_MARK)
        await loop.sock_connect(client, (host, port))
        return await loop.create_connection(Side, sock=client)
    except BaseException:
        client.close()
        raise


def refuse(status: int, body: str) -> web.Response:
    """An answer before the upgrade. The connection is closed after it, so that every hop knows its end."""
    response = web.Response(status=status, text=body)
    response.force_close()
    return response


def refuse_runtime(error: AgentError) -> web.Response:
    """An error of the runtime as a kubelet passes it on: the gRPC code decides the HTTP status."""
    code = getattr(error, "code", "")
    if code == "NOT_FOUND":
        return refuse(404, text_of(error))
    response = refuse(429 if code == "RESOURCE_EXHAUSTED" else 500, text_of(error))
    if code == "RESOURCE_EXHAUSTED":
        response.headers["Retry-After"] = "60"
    return response


def text_of(error: AgentError) -> str:
    """As a kubelet shows it: an error of the runtime with its gRPC code (WriteError, kubelet/pkg/cri/streaming)."""
    return str(getattr(error, "status_text", error))
