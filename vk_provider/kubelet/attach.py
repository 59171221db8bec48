"""/attach/{namespace}/{pod}[/{uid}]/{container}."""

from __future__ import annotations

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi, full_name, running_instance
from vk_provider.kubelet.streaming import check_stream_options, container_target, stream_to_agent
from vk_provider.wire import routes


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await get_attach(api, request)

    for method in ("GET", "POST"):
        app.router.add_route(method, "/attach/{namespace}/{pod}/{container}", handle)
        app.router.add_route(method, "/attach/{namespace}/{pod}/{uid}/{container}", handle)


async def get_attach(api: KubeletApi, request: web.Request) -> web.StreamResponse:
    """Check as a kubelet does before the upgrade, then pass the stream through."""
    refusal = check_stream_options(request)
    if refusal is not None:
        return refusal
    handle = api.find_pod(request)
    if handle is None:
        return web.Response(status=404, text="pod does not exist")
    container = request.match_info["container"]
    missing = f"container {container} not found in pod {full_name(handle.pod)}"
    instance = running_instance(handle, request.match_info.get("uid"))
    return await stream_to_agent(api, request, instance, container_target(routes.ATTACH, request), missing)
