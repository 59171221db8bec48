"""/: the provider's page for people, on the health server.

It is read without credentials, so it is served on loopback only, unless the settings say otherwise; there a request
must name an address or localhost as its host: a name of somebody's that leads here (DNS rebinding) is not answered.
"""

from __future__ import annotations

import ipaddress

from aiohttp import web

from vk_provider.kubelet.provider import StatusPage


def add_routes(app: web.Application, page: StatusPage, address: str) -> None:
    """address: on which the server listens."""
    is_local = is_loopback(address)

    async def handle(request: web.Request) -> web.StreamResponse:
        if is_local and not is_own_name(request.host):
            return web.Response(status=421, text="this page is read at an address or at localhost\n")
        body = await page.render()
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=page.headers)

    app.router.add_get("/", handle)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def is_own_name(host: str) -> bool:
    """Whether a Host header names localhost or an address."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.rstrip(".").lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
