"""Reaches real agents over mutual TLS: identity exchange, session, requests, raw streams.

An instance on which no pod has started may have no certificate yet, so the identity exchange comes first. Once it has
one, only verified connections are used: the exchange is not repeated. Nothing is sent to a peer that cannot prove its
identity, and no redirect is followed (answers.refuse_redirects).
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from vk_provider.agentclient.answers import refuse_redirects
from vk_provider.agentclient.authority import Authority, SignedCertificate
from vk_provider.agentclient.base import AgentResponse, ProtocolT
from vk_provider.agentclient.channels import HttpsResponse, WebSocketChannel, read_bounded, translate
from vk_provider.agentclient.exchange import IdentityExchange
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.one_answer import refuse_interim_answers
from vk_provider.agentclient.paced import Pace
from vk_provider.agentclient.pins import KeyPins
from vk_provider.agentclient.session import AgentSession
from vk_provider.aiokit.keepalive import keepalive_socket, set_keepalive
from vk_provider.aiokit.tlssite import TLS_SHUTDOWN_S
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentError, AgentIdentityError, AgentUnreachableError
from vk_provider.wire import routes
from vk_provider.wire.bootdata import AGENT_PORT
from vk_provider.wire.session import MAX_UP_BYTES

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 0.25
"""A SYN to a booting instance is lost, and TCP repeats it only after 1 s: probe with a short timeout instead."""
REQUEST_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""Timeout of the head of the answer to a GET, such as a log; a POST may first run a command."""
HEARTBEAT_S = 15.0
CLOSE_LIMIT_S = 0.01
"""A session that is closed waits no longer for the agent's part in it; what was written still leaves."""
CLIENT_CERTIFICATE_RENEWAL = datetime.timedelta(days=7)


class HttpsConnector:
    """AgentConnector for instances with a real agent."""

    def __init__(self, identity: ProviderIdentity, certificate_ttl_s: int, port: int = AGENT_PORT) -> None:
        self._authority = Authority(identity.ca_pem, identity.ca_key_pem, certificate_ttl_s)
        self._pins = KeyPins()
        self._exchange = IdentityExchange(identity, self._authority, self._pins, self._post)
        self._ttl_s = certificate_ttl_s
        self._port = port
        self._http: aiohttp.ClientSession | None = None
        self._certified: set[str] = set()
        self._renew_at: dict[str, float] = {}
        self._paces: dict[str, Pace] = {}
        self._open_requests: dict[str, int] = {}
        self._request_ended = asyncio.Event()
        self._verified, self._unverified = self._contexts()

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        now = datetime.datetime.now(datetime.UTC)
        self._dateless: ssl.SSLContext | None = None
        self._contexts_until = now + datetime.timedelta(days=30) - CLIENT_CERTIFICATE_RENEWAL
        return self._context(now, verify=True), self._context(now, verify=False)

    def _context(self, now: datetime.datetime, *, verify: bool, ignore_dates: bool = False) -> ssl.SSLContext:
        return self._pins.guard(self._authority.client_context(now, verify=verify, ignore_dates=ignore_dates))

    def _session(self) -> aiohttp.ClientSession:
        self._renew_contexts()
        if self._http is None:
            connector = aiohttp.TCPConnector(
                limit=0, use_dns_cache=False, keepalive_timeout=30, socket_factory=keepalive_socket
            )
            refuse_interim_answers(connector)
            self._http = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(refuse_redirects,),
            )
        return self._http

    def _renew_contexts(self) -> None:
        """Renew our own client certificate before it expires; open connections keep theirs."""
        if datetime.datetime.now(datetime.UTC) > self._contexts_until:
            self._verified, self._unverified = self._contexts()

    def _url(self, instance: Instance, path: str) -> str:
        return f"https://{instance.primary_ip}:{self._port}{path}"

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        """See AgentConnector.open_session."""
        await self._probe(instance)
        instance_id = instance.instance_id
        if fresh and instance_id not in self._certified and self._exchange.is_possible(instance):
            self._issued(instance_id, await self._exchange.identify(instance, self._unverified))
        try:
            return await self._open_websocket(instance)
        except AgentIdentityError:
            if not await self._renew_expired(instance):
                raise
            return await self._open_websocket(instance)

    def _issued(self, instance_id: str, certificate: SignedCertificate) -> None:
        self._certified.add(instance_id)
        self._plan_renewal(instance_id, certificate.not_after.timestamp())

    async def _probe(self, instance: Instance) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(instance.primary_ip, self._port)
        except (OSError, TimeoutError) as error:
            raise AgentUnreachableError(f"{instance.instance_id}: {str(error) or 'no answer'}") from None
        writer.transport.abort()

    async def _open_websocket(self, instance: Instance) -> AgentSession:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                websocket = await self._session().ws_connect(
                    self._url(instance, routes.SESSION),
                    ssl=self._verified,
                    server_hostname=routes.server_name(instance.instance_id),
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_UP_BYTES,
                    compress=0,
                    autoclose=True,
                    autoping=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT_S),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise translate(instance, error) from None
        self._certified.add(instance.instance_id)
        certificate = websocket.get_extra_info("peercert") or {}
        if "notAfter" in certificate:
            self._plan_renewal(instance.instance_id, ssl.cert_time_to_seconds(certificate["notAfter"]))
        pace = self._paces.setdefault(instance.instance_id, Pace())
        return AgentSession(WebSocketChannel(websocket, pace))

    def _plan_renewal(self, instance_id: str, not_after_s: float) -> None:
        """By the expiry of the certificate, not the start of the session: sessions break and providers restart."""
        self._renew_at[instance_id] = not_after_s - self._ttl_s / 3

    async def renew(self, instance: Instance) -> None:
        """Issue a new certificate to an identified agent; called at two thirds of the lifetime."""
        self._renew_contexts()
        self._issued(instance.instance_id, await self._exchange.renew(instance, self._verified))

    async def _renew_expired(self, instance: Instance) -> bool:
        """Renew a certificate that expired while the provider was down, if the agent still has the key that was
        certified for this instance; else return False."""
        if self._dateless is None:
            self._dateless = self._context(datetime.datetime.now(datetime.UTC), verify=True, ignore_dates=True)
        try:
            self._issued(instance.instance_id, await self._exchange.renew(instance, self._dateless))
        except AgentIdentityError:
            return False
        log.warning("the certificate of %s had expired: renewed", instance.instance_id)
        return True

    def renewal_delay_s(self, instance: Instance) -> float:
        return max(0.0, self._renew_at.get(instance.instance_id, 0.0) - time.time())

    async def _post(self, instance: Instance, path: str, body: Any, context: ssl.SSLContext) -> bytes:
        try:
            async with self._session().post(
                self._url(instance, path),
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
                ssl=context,
                server_hostname=routes.server_name(instance.instance_id),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            ) as response:
                data = await read_bounded(instance, response)
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    text = data.decode(errors="replace")[:200]
                    raise AgentError(f"{instance.instance_id}: {path} answered {response.status} {text}")
                return data
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise translate(instance, error) from None

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> AgentResponse:
        instance_id = instance.instance_id
        self._open_requests[instance_id] = self._open_requests.get(instance_id, 0) + 1
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S if method == "GET" else None):
                response = await self._session().request(
                    method,
                    self._url(instance, path),
                    params=query or [],
                    ssl=self._verified,
                    server_hostname=routes.server_name(instance.instance_id),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S),
                )
        except BaseException as error:
            self._request_done(instance_id)
            if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
                raise translate(instance, error) from None
            raise
        return HttpsResponse(response, partial(self._request_done, instance_id))

    def _request_done(self, instance_id: str) -> None:
        left = self._open_requests.get(instance_id, 0) - 1
        if left > 0:
            self._open_requests[instance_id] = left
        else:
            self._open_requests.pop(instance_id, None)
            self._request_ended.set()

    async def drain(self, instance_id: str, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while instance_id in self._open_requests:
                    self._request_ended.clear()
                    await self._request_ended.wait()
        except TimeoutError:
            log.warning("instance %s is terminated although a request to it is still open", instance_id)

    async def open_stream(
        self, instance: Instance, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        self._renew_contexts()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                transport, protocol = await asyncio.get_running_loop().create_connection(
                    protocol_factory,
                    instance.primary_ip,
                    self._port,
                    ssl=self._verified,
                    server_hostname=routes.server_name(instance.instance_id),
                    ssl_shutdown_timeout=TLS_SHUTDOWN_S,
                )
                # Otherwise a stream to a dead machine would stay open until its idle limit of hours.
                set_keepalive(transport.get_extra_info("socket"))
                return transport, protocol
        except (OSError, TimeoutError) as error:
            raise translate(instance, error) from None

    def forget(self, instance_id: str) -> None:
        """The instance is gone."""
        self._certified.discard(instance_id)
        self._pins.forget(instance_id)
        self._renew_at.pop(instance_id, None)
        self._paces.pop(instance_id, None)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
