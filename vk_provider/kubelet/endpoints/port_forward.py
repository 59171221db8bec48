"""/portForward/{namespace}/{pod}[/{uid}]."""

from __future__ import annotations

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi, full_name
from vk_provider.kubelet.streams.streaming import check_forward_ports, raw_query, stream_to_agent
from vk_provider.wire import routes


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await get_port_forward(api, request)

    for method in ("GET", "POST"):
        app.router.add_route(method, "/portForward/{namespace}/{pod}", handle)
        app.router.add_route(method, "/portForward/{namespace}/{pod}/{uid}", handle)


async def get_port_forward(api: KubeletApi, request: web.Request) -> web.StreamResponse:
    """Check as a kubelet does before the upgrade, then forward the stream."""
    refusal = check_forward_ports(request)
    if refusal is not None:
        return refusal
    handle = api.find_pod(request)
    if handle is None:
        return web.Response(status=404, text="pod does not exist")
    uid = request.match_info.get("uid")
    if uid and handle.pod["metadata"].get("uid") != uid:
        return web.Response(status=404, text="pod not found")
    query = raw_query(request)
    target = f"{routes.PORT_FORWARD}?{query}" if query else routes.PORT_FORWARD
    missing = f'pod not found ("{full_name(handle.pod)}")'
    return await stream_to_agent(api, request, handle.instance, target, missing)
