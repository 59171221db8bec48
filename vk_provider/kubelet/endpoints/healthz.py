"""/healthz and /healthz/{ping,log,syncloop}."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi

CHECKS = ("ping", "log", "syncloop")


def render_healthz(results: dict[str, bool], verbose: bool) -> tuple[int, str]:
    """(HTTP status, body) of the named checks."""
    healthy = all(results.values())
    if healthy and not verbose:
        return HTTPStatus.OK, "ok"
    lines = [f"[+]{name} ok" if good else f"[-]{name} failed: reason withheld" for name, good in results.items()]
    lines.append(f"healthz check {'passed' if healthy else 'failed'}")
    return (HTTPStatus.OK if healthy else HTTPStatus.INTERNAL_SERVER_ERROR), "\n".join(lines) + "\n"


def answer_healthz(is_healthy: Callable[[], bool], name: str, verbose: bool) -> web.Response:
    """All checks, or the named one."""
    names = (name,) if name else CHECKS
    status, body = render_healthz({check: check != "syncloop" or is_healthy() for check in names}, verbose and not name)
    if name and status != HTTPStatus.OK:
        body = f"internal server error: {name} failed: reason withheld\n"
    return web.Response(status=status, text=body)


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return answer_healthz(api.component.is_healthy, request.match_info.get("check", ""), "verbose" in request.query)

    app.router.add_route("*", "/healthz", handle)
    app.router.add_route("*", "/healthz/{check:ping|log|syncloop}", handle)
