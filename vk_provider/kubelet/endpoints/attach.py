"""/attach/{namespace}/{pod}[/{uid}]/{container}."""

from __future__ import annotations

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi, full_name
from vk_provider.kubelet.streams.streaming import add_container_routes
from vk_provider.wire import routes


def add_routes(app: web.Application, api: KubeletApi) -> None:
    add_container_routes(
        app,
        api,
        "attach",
        routes.ATTACH,
        lambda pod, container: f"container {container} not found in pod {full_name(pod)}",
    )
