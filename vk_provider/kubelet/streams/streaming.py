"""exec, attach and portForward: checks before the upgrade, then the bytes pass unchanged to the pod's agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote

from aiohttp import web

from vk_provider.agentclient.answer_gate import AnswerGate
from vk_provider.aiokit.hijack import build_upgrade_head, is_upgrade, pass_through
from vk_provider.aiokit.pump import Side, Trailer
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.kubelet.api import KubeletApi, running_instance
from vk_provider.kubelet.streams.broken_exec import BrokenExec
from vk_provider.wire import routes
from vk_provider.wire.stream import StreamOptionsError, parse_forward_ports, parse_stream_options


def raw_query(request: web.BaseRequest) -> str:
    """The query string as the client encoded it."""
    return request.raw_path.partition("?")[2]


def container_target(route: str, request: web.Request) -> str:
    """The agent's route with the container of the path and the client's own query."""
    query = raw_query(request)
    target = f"{route}?container={quote(request.match_info['container'], safe='')}"
    return f"{target}&{query}" if query else target


async def stream_to_agent(
    api: KubeletApi,
    request: web.Request,
    instance: Instance | None,
    target: str,
    missing: str,
    trailer: Trailer | None = None,
) -> web.StreamResponse:
    """Upgrade end to end.

    missing: body of the kubelet's 500 when the container or sandbox does not exist
    trailer: see pass_through
    """
    if instance is None:
        return web.Response(status=500, text=missing)
    if not is_upgrade(request):
        headers = ", ".join(sorted(request.headers))
        return web.Response(status=400, text=f"unable to upgrade: missing upgrade headers in request: {headers}")

    async def open_agent() -> tuple[asyncio.Transport, Side]:
        return await api.connections.open(instance)

    head = build_upgrade_head(request, target, routes.server_name(instance.instance_id))
    task = asyncio.current_task()
    assert task is not None
    api.streams.add(task)
    try:
        gate = AnswerGate(trailer)
        return await pass_through(request, open_agent, head, api.idle_s, gate, gate)
    except AgentError as error:
        return web.Response(status=500, text=f"instance {instance.instance_id} does not answer: {error}")
    finally:
        api.streams.discard(task)


async def end_streams(api: KubeletApi, limit_s: float) -> None:
    """Close the open streams of a stopping server: aiohttp would close them without a trailer to their clients."""
    tasks = list(api.streams)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=limit_s)


def add_container_routes(
    app: web.Application, api: KubeletApi, verb: str, route: str, missing: Callable[[Json, str], str]
) -> None:
    """Routes of exec and attach: check as a kubelet does before the upgrade, then pass the stream through.

    missing: (pod, container) -> body of the kubelet's 500 when the container does not exist
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        refusal = check_stream_options(request)
        if refusal is not None:
            return refusal
        found = api.find_pod(request)
        if found is None:
            return web.Response(status=404, text="pod does not exist")
        text = missing(found.pod, request.match_info["container"])
        instance = running_instance(found, request.match_info.get("uid"))
        target = container_target(route, request)
        return await stream_to_agent(api, request, instance, target, text, BrokenExec())

    for method in ("GET", "POST"):
        app.router.add_route(method, f"/{verb}/{{namespace}}/{{pod}}/{{container}}", handle)
        app.router.add_route(method, f"/{verb}/{{namespace}}/{{pod}}/{{uid}}/{{container}}", handle)


def check_stream_options(request: web.Request) -> web.Response | None:
    """The kubelet's 400 when no stream is asked for."""
    try:
        parse_stream_options(request.query)
    except StreamOptionsError as error:
        return web.Response(status=400, text=str(error))
    return None


def check_forward_ports(request: web.Request) -> web.Response | None:
    """WebSocket port-forward names its ports in the query; SPDY in its streams."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        try:
            parse_forward_ports(list(request.query.items()))
        except StreamOptionsError as error:
            return web.Response(status=400, text=str(error))
    return None
