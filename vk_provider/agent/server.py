"""The agent's HTTPS server: authorization, the identity routes, and the routes that other modules add.

TLS demands a client certificate of the provider's CA. Instances have certificates of that CA too, so the common name is
checked as well. Until the provider has certified the agent, only the identity routes answer.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from vk_provider.agent.identity import AgentIdentity, IdentityRefused
from vk_provider.aiokit.connection_limits import ConnectionLimits
from vk_provider.aiokit.tlssite import TlsSite
from vk_provider.errors import BadStartError
from vk_provider.wire import routes
from vk_provider.wire.version import SUPPORTED_VERSIONS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LIMITS = ConnectionLimits()
"""As in a kubelet: the command of an exec is part of the request line."""
SHUTDOWN_LIMIT_S = 2.0

_PEER_ROUTES = f"{routes.BLOBS}/"
"""For other instances: each request needs a grant of the provider (agent.blobs.serving)."""
_IDENTITY_ROUTES = frozenset({routes.IDENTITY_REQUEST, routes.IDENTITY_CERTIFICATE})


class AgentServer:
    """Serves `app` on one address. Others add their routes to `app` before `start`."""

    def __init__(self, identity: AgentIdentity) -> None:
        self._identity = identity
        self.app = web.Application(middlewares=[self._guard])
        self.app.router.add_post(routes.IDENTITY_REQUEST, self._handle_identity)
        self.app.router.add_post(routes.IDENTITY_CERTIFICATE, self._handle_certificate)
        self.app.router.add_get(routes.HEALTHZ, _handle_healthz)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on host:port. Raises BadStartError when the address is not available."""
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_LIMIT_S,
            max_line_size=LIMITS.head_bytes,
            max_field_size=LIMITS.head_bytes,
        )
        await self._runner.setup()
        try:
            site = TlsSite(
                self._runner, host, port, lambda: self._identity.context, limits=LIMITS, is_authenticated=_is_provider
            )
            await site.start()
        except OSError as error:
            raise BadStartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: (host, port) pairs."""
        return self._runner.addresses if self._runner else []

    async def stop(self) -> None:
        """Stop accepting and give open requests a moment."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_provider(request) and not request.path.startswith(_PEER_ROUTES):
            return web.Response(status=403, text="the client certificate is not the provider's\n")
        if not self._identity.is_issued and request.path not in _IDENTITY_ROUTES:
            return web.Response(status=403, text="the agent has no certificate yet\n")
        return await handler(request)

    async def _handle_identity(self, request: web.Request) -> web.Response:
        nonce = await _read_text(request, "nonce")
        answer = self._identity.answer(nonce, SUPPORTED_VERSIONS)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def _handle_certificate(self, request: web.Request) -> web.Response:
        certificate_pem = await _read_text(request, "certificate")
        try:
            self._identity.accept(certificate_pem)
        except IdentityRefused as error:
            return web.Response(status=422, text=f"{error}\n")
        except OSError as error:
            return web.Response(status=507, text=f"the certificate cannot be kept: {error.strerror or error}\n")
        return web.Response(status=204)


def is_provider(request: web.Request) -> bool:
    """Whether the verified client certificate of the connection bears the provider's name."""
    tls = request.get_extra_info("ssl_object")
    return isinstance(tls, ssl.SSLObject) and _is_provider(tls)


def _is_provider(tls: ssl.SSLObject) -> bool:
    subject = (tls.getpeercert() or {}).get("subject", ())
    return any(("commonName", routes.PROVIDER_COMMON_NAME) in part for part in subject)


async def _read_text(request: web.Request, field: str) -> str:
    try:
        value = orjson.loads(await request.read())[field]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        value = None
    if not isinstance(value, str) or not value:
        raise web.HTTPBadRequest(text=f"a JSON object with the string {field} is expected\n")
    return value


async def _handle_healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")
