"""The HTTPS part of an agent on 127.0.0.1, and the client of a provider, both real."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.server import AgentServer
from vk_provider.agent.session import SessionHandler
from vk_provider.agentclient.authority import Authority, read_csr
from vk_provider.wire import routes

INSTANCE_ID = "i-0123456789abcdef0"
BOOT_SECRET = "5e" * 32
STARTED_AT = "2026-01-02T03:04:05Z"


class LoopbackAgent:
    """Server, identity, outbox and session of one agent; `received` are the messages that came down."""

    def __init__(self, authority: Authority, state_dir: Path, instance_id: str, boot_secret: str) -> None:
        self.authority = authority
        self.identity = AgentIdentity(state_dir, instance_id, authority.certificate_pem, boot_secret)
        self.identity.load_or_create()
        self.outbox = Outbox()
        self.received: list[dict[str, Any]] = []
        self.pod_uid = ""
        self.server = AgentServer(self.identity)
        self.session = SessionHandler(self.outbox, self.received.append, lambda: self.pod_uid, instance_id, STARTED_AT)
        self.session.add_routes(self.server.app)
        self.port = 0

    async def start(self) -> None:
        await self.server.start("127.0.0.1", 0)
        self.port = self.server.addresses[0][1]

    async def stop(self) -> None:
        await self.server.stop()

    def certify(self) -> None:
        """What the identity exchange ends with, without the exchange."""
        answer = self.identity.answer("00", [1])
        csr = read_csr(str(answer["csr"]), INSTANCE_ID)
        signed = self.authority.sign_instance(csr, INSTANCE_ID, datetime.datetime.now(datetime.UTC))
        self.identity.accept(signed.pem)

    def client(self, *, verify: bool) -> ProviderClient:
        return ProviderClient(self, self.authority.client_context(datetime.datetime.now(datetime.UTC), verify=verify))


class ProviderClient:
    """A fresh connection per client; use as an async context manager."""

    def __init__(self, agent: LoopbackAgent, context: ssl.SSLContext) -> None:
        self._base = f"https://127.0.0.1:{agent.port}"
        self._tls = {"ssl": context, "server_hostname": routes.server_name(INSTANCE_ID)}

    async def __aenter__(self) -> ProviderClient:
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(self._base + path, **self._tls) as response:
            return response.status, await response.text()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with self._http.post(self._base + path, data=orjson.dumps(body), **self._tls) as response:
            data = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, orjson.loads(data) if is_json else data.decode()

    async def open_session(self) -> aiohttp.ClientWebSocketResponse:
        return await self._http.ws_connect(self._base + routes.SESSION, **self._tls)
