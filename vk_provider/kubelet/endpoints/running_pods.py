"""/runningpods/: running pods as a runtime lists them: names, UIDs, containers and their images."""

from __future__ import annotations

from aiohttp import web

from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kubelet.api import KubeletApi, require_get
from vk_provider.kubelet.endpoints.pods import send_pod_list
from vk_provider.kubelet.readers import Readers

_STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def add_routes(app: web.Application, api: KubeletApi) -> None:
    readers = Readers()

    async def handle(request: web.Request) -> web.StreamResponse:
        require_get(request)
        running = []
        for pod in api.source.pods(api.node):
            with contained("a pod in the list of running ones"):
                if (found := build_running_pod(pod)) is not None:
                    running.append(found)
        async with readers.admit(request):
            return await send_pod_list(request, running)

    app.router.add_route("*", "/runningpods", handle)
    app.router.add_route("*", "/runningpods/", handle)


def build_running_pod(pod: Json) -> Json | None:
    """A pod reduced to its running containers; None when it has none."""
    status = pod.get("status") or {}
    containers = [
        {"name": item["name"], "image": item.get("image", ""), "resources": {}}
        for key in _STATUS_LISTS
        for item in status.get(key) or ()
        if (item.get("state") or {}).get("running") is not None
    ]
    if not containers:
        return None
    metadata = {key: pod["metadata"].get(key, "") for key in ("name", "namespace", "uid")}
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {}}
