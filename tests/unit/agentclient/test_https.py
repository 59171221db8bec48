"""What the connector makes of agents that are silent, broken or hostile."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.listener import hello
from tests.unit.agentclient.test_renewal import INSTANCE
from vk_provider.agentclient import channels, https
from vk_provider.agentclient.authority import Authority, read_csr
from vk_provider.agentclient.bootsecret import build_launch_id
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.base import TAG_LAUNCH, Instance, InstanceState
from vk_provider.errors import AgentError, AgentIdentityError, AgentProtocolError, AgentUnreachableError
from vk_provider.wire import routes
from vk_provider.wire.exchange import MAX_EXCHANGE_BYTES

IDENTITY = ProviderIdentity.create(datetime.datetime.now(datetime.UTC))
TAGS = {TAG_LAUNCH: build_launch_id(IDENTITY.master_secrets[-1], "token")}
LOOPBACK = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "127.0.0.1", "127.0.0.2", 0.0, TAGS)


class Agent:
    """Answers IDENTITY_REQUEST with `answer` (raw bytes or JSON), and a log never."""

    def __init__(self) -> None:
        self.answer: Any = {}

    async def start(self, identity: ProviderIdentity, directory: Path) -> int:
        server = serving_context(identity, directory)
        app = web.Application()
        app.router.add_post(routes.IDENTITY_REQUEST, self._identify)
        app.router.add_get(routes.LOGS, self._never)
        app.router.add_get(routes.SESSION, self._flood)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=server).start()
        return int(self._runner.addresses[0][1])

    async def _identify(self, _: web.Request) -> web.Response:
        if isinstance(self.answer, bytes):
            return web.Response(body=self.answer)
        return web.json_response(self.answer)

    async def _flood(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        await websocket.send_json(hello())
        await websocket.send_bytes(bytes(1001))
        await websocket.receive()
        return websocket

    async def _never(self, _: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async def stop(self) -> None:
        await self._runner.cleanup()


def serving_context(identity: ProviderIdentity, directory: Path) -> ssl.SSLContext:
    """TLS of instance i-1 once it is certified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_issue(identity, directory))
    return context


def _issue(identity: ProviderIdentity, directory: Path) -> tuple[Path, Path]:
    """Certificate and key of instance i-1, as its agent would have them."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = read_csr(csr.public_bytes(serialization.Encoding.PEM).decode(), "i-1")
    now = datetime.datetime.now(datetime.UTC)
    signed = Authority(identity.ca_pem, identity.ca_key_pem, 900).sign_instance(csr, "i-1", now)
    certificate, key_file = directory / "agent.crt", directory / "agent.key"
    certificate.write_text(signed.pem)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key_file


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[tuple[Agent, HttpsConnector]]:
    built = Agent()
    connector = HttpsConnector(IDENTITY, certificate_ttl_s=900, port=await built.start(IDENTITY, tmp_path))
    yield built, connector
    await connector.close()
    await built.stop()


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"versions": 1, "instanceID": "i-1", "csr": "", "hmac": ""},
        {"versions": [1], "instanceID": "i-1", "csr": None, "hmac": "00"},
        {"versions": [1], "instanceID": "i-1", "csr": "x", "hmac": "\u00e9"},
        {"versions": [1], "instanceID": "i-1", "csr": "x", "hmac": "00"},
        {"versions": ["1"], "instanceID": "i-1", "csr": "x", "hmac": "00"},
        {"versions": [10**30], "instanceID": "i-1", "csr": "x", "hmac": "00"},
        {"versions": [1] * 65, "instanceID": "i-1", "csr": "x", "hmac": "00"},
        {"versions": [1], "instanceID": "i-1\n", "csr": "x", "hmac": "00"},
        {"versions": [1], "instanceID": "i-1", "csr": "x" * 20_000, "hmac": "00"},
        {"versions": [1], "instanceID": "i-1", "csr": "x", "hmac": "0" * 65},
        b"{",
        b"\xff",
        b"[" * 60_000,
    ],
)
async def test_a_bad_identity_answer_is_an_identity_error(agent: tuple[Agent, HttpsConnector], answer: Any) -> None:
    agent[0].answer = answer
    with pytest.raises(AgentIdentityError):
        await agent[1].open_session(LOOPBACK, fresh=True)


async def test_a_bad_request_for_renewal_is_an_identity_error(agent: tuple[Agent, HttpsConnector]) -> None:
    for agent[0].answer in ({}, {"csr": "no PEM"}):
        with pytest.raises(AgentIdentityError, match="malformed"):
            await agent[1].renew(LOOPBACK)


async def test_an_agent_cannot_fill_the_providers_memory(
    agent: tuple[Agent, HttpsConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent[0].answer = bytes(MAX_EXCHANGE_BYTES + 1)
    with pytest.raises(AgentError, match="more than"):
        await agent[1].renew(LOOPBACK)
    monkeypatch.setattr(https, "MAX_UP_BYTES", 1000)
    received: list[Any] = []
    session = await agent[1].open_session(LOOPBACK, fresh=False)
    with pytest.raises(AgentProtocolError, match="close code 1009"):
        await session.run(received.append)
    assert received == [hello()]


async def test_an_agent_that_accepts_but_does_not_answer_is_given_up(
    agent: tuple[Agent, HttpsConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "ANSWER_TIMEOUT_S", 0.05)
    with pytest.raises(AgentUnreachableError, match="i-1: TimeoutError"):
        await agent[1].request(LOOPBACK, "GET", routes.LOGS)
    assert agent[1]._open_requests == {}


async def test_streams_and_requests_notice_a_machine_that_is_gone(agent: tuple[Agent, HttpsConnector]) -> None:
    transport, _ = await agent[1].open_stream(LOOPBACK, asyncio.Protocol)
    connection = transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    transport.abort()
    connector = agent[1]._session().connector
    assert connector._socket_factory is https.keepalive_socket


def test_an_error_without_words_is_named() -> None:
    assert str(channels.translate(INSTANCE, TimeoutError())) == "i-1: TimeoutError"
