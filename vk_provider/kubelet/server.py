"""The HTTPS server of one Node, and the plain health server of the process."""

from __future__ import annotations

import errno
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from vk_provider.aiokit.connection_limits import ConnectionLimits
from vk_provider.aiokit.headguard import GuardedHandler
from vk_provider.aiokit.tlssite import TlsSite
from vk_provider.errors import BadStartError
from vk_provider.kubelet.access.auth import AuthFilter
from vk_provider.kubelet.access.serving_tls import ServingTls, is_issued_by, shows_certificate
from vk_provider.kubelet.api import GO_NOT_FOUND, KubeletApi
from vk_provider.kubelet.endpoints import (
    attach,
    bill,
    configz,
    container_logs,
    disabled,
    exec,
    healthz,
    metrics,
    metrics_cadvisor,
    metrics_probes,
    metrics_resource,
    net_explain,
    pods,
    port_forward,
    run,
    running_pods,
    stats_summary,
    status_page,
    zpages,
)
from vk_provider.kubelet.provider import StatusPage
from vk_provider.kubelet.samples import NodeSamples
from vk_provider.kubelet.streams.streaming import end_streams

log = logging.getLogger(__name__)

IDLE_CONNECTION_S = 90.0
LIMITS = ConnectionLimits()
SHUTDOWN_S = 1.0

_RESTFUL_ROOTS = ("stats", "run", "exec", "attach", "portForward", "containerLogs", "pods", "runningpods")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Address, serving certificate and client CAs of a Node's server.

    certificate_file, key_file: "" until a serving certificate was issued; handshakes fail until `reload_certificate`
    client_ca_pem:              signers of client certificates; "" leaves bearer tokens only
    """

    host: str
    port: int
    certificate_file: str = ""
    key_file: str = ""
    client_ca_pem: str = ""


def build_app(api: KubeletApi, auth: AuthFilter) -> web.Application:
    """All routes behind the filter."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS" and request.raw_path == "*":
            return web.Response()  # Go's http.Server answers this one itself (globalOptionsHandler)
        refusal = await auth.refuse(request)
        return refusal if refusal is not None else await _answer(request, handler)

    app = web.Application(middlewares=[check])
    samples = NodeSamples(api.node, api.source, api.component.started_at)
    for endpoint in (healthz, pods, running_pods, container_logs, exec, attach, port_forward, run, configz, metrics):
        endpoint.add_routes(app, api)
    for scraped in (stats_summary, metrics_resource, metrics_cadvisor, metrics_probes):
        scraped.add_routes(app, samples)
    disabled.add_routes(app)
    zpages.add_routes(app, api)
    net_explain.add_routes(app, api)
    bill.add_routes(app, api)

    async def end(_: web.Application) -> None:
        await end_streams(api, SHUTDOWN_S)

    app.on_shutdown.append(end)
    return app


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Routing errors with the texts of Go's servers; an unexpected error is a 500 and a log line. Once a part of an
    answer is sent, an error breaks the connection off: a client must not take what it has for the whole, nor read a
    second answer as the rest of the first (Go's servers panic with ErrAbortHandler)."""
    try:
        return await handler(request)
    except ConnectionError:
        # The client has gone: there is nobody to answer and nothing to log.
        return _break_off(request)
    except Exception as error:
        if not isinstance(error, web.HTTPException):
            log.exception("%s %s failed", request.method, request.path)
        return _break_off(request) if request.writer.output_size > 0 else _describe(request, error)


def _break_off(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _describe(request: web.Request, error: Exception) -> web.Response:
    """Raises it where aiohttp knows the answer."""
    match error:
        case web.HTTPMethodNotAllowed():
            text = error.text if error.text == "Method Not Allowed" else "405: Method Not Allowed"
            return web.Response(status=405, text=text, headers={"Allow": ", ".join(sorted(error.allowed_methods))})
        case web.HTTPNotFound():
            restful = request.path.partition("/")[2].partition("/")[0] in _RESTFUL_ROOTS
            return web.Response(status=404, text="404: Page Not Found" if restful else GO_NOT_FOUND)
        case web.HTTPException():
            raise error
        case _:
            return web.Response(status=500, text=f"Internal Error: {error}")


class KubeletServer:
    """Serves one Node's kubelet API until `stop`."""

    def __init__(self, config: ServerConfig, api: KubeletApi, auth: AuthFilter) -> None:
        self.config = config
        self.port = config.port
        self._tls = ServingTls(config.client_ca_pem)
        self._connections = api.connections
        self._runner = web.AppRunner(
            build_app(api, auth),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=IDLE_CONNECTION_S,
            max_line_size=LIMITS.head_bytes,
            max_field_size=LIMITS.head_bytes,
            shutdown_timeout=SHUTDOWN_S,
        )

    async def start(self) -> None:
        """Listen. Raises BadStartError when the port is taken or the certificate cannot be read."""
        config = self.config
        if config.certificate_file:
            try:
                self.reload_certificate(config.certificate_file, config.key_file)
            except (OSError, ssl.SSLError) as error:
                raise BadStartError(f"serving certificate {config.certificate_file}: {error}") from None
        await self._runner.setup()
        try:
            site = TlsSite(
                self._runner,
                config.host,
                config.port,
                lambda: self._tls.context,
                limits=LIMITS,
                is_authenticated=shows_certificate,
            )
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"kubelet API cannot listen on {config.host}:{config.port}"
            raise BadStartError(f"{what}: {_listen_problem(error, 'address and port in [[nodes]]')}") from None
        self.port = self._runner.addresses[0][1]

    def reload_certificate(self, certificate_file: str, key_file: str) -> None:
        """Use a new certificate for new handshakes; open connections stay. Raises OSError or ssl.SSLError."""
        self._tls.load_certificate(certificate_file, key_file)

    def reload_client_ca(self, pem: str) -> None:
        """Verify client certificates with these CAs alone. Raises OSError or ssl.SSLError; nothing changes then.

        Connections that authenticated by another CA are served no further request: their clients reconnect.
        """
        self._tls.trust(pem)
        server = self._runner.server
        for handler in server.connections if server is not None else ():
            transport = handler.transport
            tls = transport.get_extra_info("ssl_object") if transport is not None else None
            if tls is None or not isinstance(handler, GuardedHandler):
                continue
            certificate = tls.getpeercert(True)
            if certificate is not None and not is_issued_by(certificate, pem):
                handler.retire()

    async def stop(self) -> None:
        """Stop accepting, end open streams, close."""
        await self._connections.close()
        await self._runner.cleanup()


class HealthServer:
    """/healthz without TLS on loopback, as a kubelet's port 10248; and the status page, if there is one, at /."""

    def __init__(self, host: str, port: int, is_healthy: Callable[[], bool], page: StatusPage | None = None) -> None:
        self._host, self._port, self._is_healthy, self._page = host, port, is_healthy, page
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises BadStartError when the port is taken."""

        async def handle(request: web.Request) -> web.Response:
            check, verbose = request.match_info.get("check", ""), "verbose" in request.query
            return healthz.answer_healthz(self._is_healthy, check, verbose)

        app = web.Application()
        app.router.add_route("*", "/healthz", handle)
        app.router.add_route("*", "/healthz/{check:ping|log|syncloop}", handle)
        if self._page is not None:
            status_page.add_routes(app, self._page, self._host)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"health server cannot listen on {self._host}:{self._port}"
            raise BadStartError(f"{what}: {_listen_problem(error, 'kubelet.healthz_port')}") from None

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def port(self) -> int:
        """While it listens."""
        return int(self._runner.addresses[0][1]) if self._runner is not None else self._port


def _listen_problem(error: OSError, settings: str) -> str:
    """The cause and what to change. asyncio's own text would repeat the address."""
    if error.errno == errno.EADDRINUSE:
        return f"taken by another process, perhaps a kubelet or a second vk-provider; stop it or change {settings}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no interface of this machine has the address; change {settings}"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
