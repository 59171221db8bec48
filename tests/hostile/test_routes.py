"""What a hostile agent can do with answers: logs, commands, identity, redirects, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import os
import secrets
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hostile.agents import Handler, HostileAgent, Script, Session, drain
from tests.hostile.world import ANSWER_LIMIT_S, World, until
from vk_provider.agentclient.authority import Authority, create_authority
from vk_provider.wire import routes

ATTACK_S = 1.5
EXPLAINED_S = 20.0
"""An agent has five seconds for its part."""
ARCHIVE_BYTES = 10 << 20
"""pods.archive_bytes as it is when nobody sets it."""
ARCHIVE_SLACK = 1 << 20
BLOCK = b"2026-11-28T10:00:00.000000000Z stdout F " + b"x" * 4_000 + b"\n"
POD_ROUTES = (
    ("GET", "/containerLogs/{pod}/c"),
    ("POST", "/run/{pod}/c?cmd=true"),
    ("POST", "/exec/{pod}/c?command=true&output=1"),
    ("POST", "/attach/{pod}/c?output=1"),
    ("POST", "/portForward/{pod}"),
)
UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}


async def answer_without_end(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    while True:
        await drain(request)  # a write that need not wait gives nobody else a turn
        await response.write(BLOCK * 16)


async def answer_never(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _write_raw(request: web.Request, *parts: bytes) -> web.StreamResponse:
    """An answer of the test's own making; the connection is closed after it."""
    for part in parts:
        assert request.transport is not None
        request.transport.write(part)
        await drain(request)
    await asyncio.sleep(0.5)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def answer_with_a_large_header(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    return await _write_raw(request, b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * (1 << 20) + b"\r\n\r\n")


async def answer_with_many_headers(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    headers = [b"X-%d: %s\r\n" % (number, b"x" * 4_000) for number in range(2_000)]
    return await _write_raw(request, b"HTTP/1.1 200 OK\r\n", *headers)


async def _write_on(request: web.Request, data: bytes) -> web.StreamResponse:
    """Again and again, as fast as it is read."""
    while True:
        await drain(request)
        assert request.transport is not None
        request.transport.write(data)


async def answer_with_a_head_without_end(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\n")
    return await _write_on(request, b"X-Y: z\r\n" * 1_000)


async def answer_with_interim_answers_without_end(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    return await _write_on(request, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100)


async def answer_in_tiny_chunks(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    transport: Any = request.transport
    transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    return await _write_on(request, b"1\r\nx\r\n" * 1_000)


async def answer_no_http(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    return await _write_raw(request, secrets.token_bytes(1000))


async def answer_half(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
    return await _write_raw(request, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")


ANSWERS: list[Handler] = [
    answer_without_end,
    answer_never,
    answer_with_a_large_header,
    answer_with_many_headers,
    answer_with_a_head_without_end,
    answer_with_interim_answers_without_end,
    answer_in_tiny_chunks,
    answer_no_http,
    answer_half,
]


async def _ask(world: World, name: str, method: str, path: str, limit_s: float) -> tuple[int, bytes]:
    """What a client that reads for some seconds gets of a route; (0, b"") when it hung up."""
    where = path.replace("{pod}", f"{world.namespace.name}/{name}")
    headers = UPGRADE if path.startswith(("/exec", "/attach", "/portForward")) else None
    return await world.kubelet.read_some(method, where, limit_s, headers)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_an_answer_of_a_hostile_agent_hurts_its_own_reader_only(world: World, answer: Handler) -> None:
    handlers = {path: answer for path in (routes.LOGS, routes.RUN, routes.EXEC, routes.ATTACH, routes.PORT_FORWARD)}
    name = world.call(world.create_hostile(Script(handlers=handlers)))
    agent = world.call(world.wait_agent(name))

    async def ask_all() -> None:
        await asyncio.gather(*(_ask(world, name, *route, ATTACK_S) for route in POD_ROUTES for _ in range(2)))

    with world.watched():
        world.call(ask_all())
    assert agent.requests[routes.LOGS] >= 2
    assert agent.failures == []


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_an_explanation_does_without_a_hostile_agent(world: World, answer: Handler) -> None:
    name = world.call(world.create_hostile(Script(handlers={routes.TABLES: answer})))
    agent = world.call(world.wait_agent(name))
    questions, code, body = 0, 0, b'"unknown"'
    with world.watched():
        while b'"unknown"' in body and questions < 20:  # the provider has just started: no table is compiled yet
            questions += 1
            asked = _ask(world, name, "GET", "/net/explain/{pod}?target=192.0.2.1:80", EXPLAINED_S)
            code, body = world.call(asked)
    assert code == 200 and b'"connects":true' in body and b'"seen"' not in body, body
    assert agent.requests[routes.TABLES] == questions
    assert agent.failures == []


def test_a_reader_that_does_not_read_costs_no_memory(world: World) -> None:
    name = world.call(world.create_hostile(Script(handlers={routes.LOGS: answer_without_end})))
    world.call(world.wait_agent(name))

    async def open_and_wait() -> None:
        path = f"/containerLogs/{world.namespace.name}/{name}/c"
        await asyncio.gather(*(world.kubelet.open_unread(path, ATTACK_S) for _ in range(8)))

    with world.watched():
        world.call(open_and_wait())


def test_an_endless_log_fills_no_archive(world: World) -> None:
    """The pod has ended; its logs are fetched before its instance is terminated."""

    async def finish(agent: HostileAgent, session: Session) -> None:
        await session.say({**agent.status(phase="Succeeded"), "finished": True})
        await session.closed.wait()

    script = Script(finish, handlers={routes.LOGS: answer_without_end})
    names = [world.call(world.create_hostile(script)) for _ in range(3)]
    agents = [world.call(world.wait_agent(name)) for name in names]
    largest = 0
    with world.watched():
        deadline = time.monotonic() + 60
        while any(name in world.agents for name in names):
            assert time.monotonic() < deadline, "instances of ended pods are not terminated"
            largest = max(largest, _size(world.archive))
            time.sleep(0.02)
    assert all(agent.requests[routes.LOGS] for agent in agents)
    assert largest <= len(names) * (ARCHIVE_BYTES + ARCHIVE_SLACK)
    assert not list(world.archive.rglob("*.part"))


def _size(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def test_agents_that_do_not_hand_over_their_logs_delay_no_other_pods_end(world: World) -> None:
    async def finish(agent: HostileAgent, session: Session) -> None:
        await session.say({**agent.status(phase="Succeeded"), "finished": True})
        await session.closed.wait()

    silent = [world.call(world.create_hostile(Script(finish, handlers={routes.LOGS: answer_never}))) for _ in range(10)]
    for name in silent:
        world.call(world.wait_agent(name))
    with world.watched(rounds=1):
        began = time.monotonic()
        good = world.call(world.create_hostile(Script(finish)))
        world.call(world.wait_agent(good))
        world.call(until("the good pod's instance is gone", lambda: _is_gone(world, good)))
        assert time.monotonic() - began < ANSWER_LIMIT_S


async def _is_gone(world: World, name: str) -> bool:
    return name not in world.agents


# --- redirects -------------------------------------------------------------------------------------------------------


class Canary:
    """A server beside the provider, as the metadata service or an API on loopback is. Nobody may ask it anything."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(repr(await reader.read(200)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
def canary(world: World) -> Iterator[Canary]:
    built = Canary()
    world.call(built.start())
    yield built
    world.call(built.stop())


@pytest.mark.parametrize("status", [302, 307])
def test_no_redirect_of_an_agent_is_followed_or_passed_on(world: World, canary: Canary, status: int) -> None:
    async def redirect(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{canary.port}/latest/meta-data"})

    async def finish(agent: HostileAgent, session: Session) -> None:
        await session.say({**agent.status(phase="Succeeded"), "finished": True})
        await session.closed.wait()

    streams = (routes.LOGS, routes.RUN, routes.EXEC, routes.ATTACH, routes.PORT_FORWARD)
    scripts = {
        "identity": Script(handlers={routes.IDENTITY_REQUEST: redirect}),
        "certificate": Script(handlers={routes.IDENTITY_CERTIFICATE: redirect}),
        "session": Script(handlers={routes.SESSION: redirect}),
        "routes": Script(handlers=dict.fromkeys(streams, redirect)),
        "archive": Script(finish, handlers={routes.LOGS: redirect}),
    }
    names = {kind: world.call(world.create_hostile(script)) for kind, script in scripts.items()}
    agents = {kind: world.call(world.wait_agent(name, given=False)) for kind, name in names.items()}
    world.call(world.wait_agent(names["routes"]))
    with world.watched():
        for method, path in POD_ROUTES:
            code, body = world.call(_ask(world, names["routes"], method, path, ATTACK_S))
            assert b"Location" not in body and b"secret" not in body and not 300 <= code < 400, (path, code, body)
        world.call(until("the archived pod is gone", lambda: _is_gone(world, names["archive"])))
        for kind, path in (
            ("identity", routes.IDENTITY_REQUEST),
            ("certificate", routes.IDENTITY_CERTIFICATE),
            ("session", routes.SESSION),
        ):
            world.call(until(f"{path} is asked for", lambda a=agents[kind], p=path: _is_asked(a, p)))
    assert canary.asked == []
    assert agents["certificate"].requests[routes.SESSION] == agents["identity"].requests[routes.SESSION] == 0


async def _is_asked(agent: HostileAgent, path: str) -> bool:
    return agent.requests[path] > 0


# --- who it is -------------------------------------------------------------------------------------------------------


def _context(agent: HostileAgent, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=agent.boot.ca_pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(certificate, key)
    return context


def _issue(agent: HostileAgent, directory: Path, *, expired: bool) -> ssl.SSLContext:
    """A certificate with the right name, of another CA."""
    now = datetime.datetime.now(datetime.UTC)
    then = now - datetime.timedelta(days=10) if expired else now
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    signed = Authority(*create_authority(then), ttl_s=900).sign_instance(csr, agent.instance.instance_id, then)
    certificate, key_file = directory / "other.crt", directory / "other.key"
    certificate.write_text(signed.pem)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(*pem))
    return _context(agent, certificate, key_file)


CERTIFICATES = ("of another instance", "self-signed", "of another CA", "expired, of another CA")


def test_an_agent_with_a_wrong_certificate_is_given_no_pod(world: World, tmp_path: Path) -> None:
    known = world.call(world.wait_agent(world.call(world.create_hostile(Script()))))

    def script(kind: str) -> Script:
        def build(agent: HostileAgent) -> ssl.SSLContext:
            if kind == "of another instance":
                return _context(agent, known.identity._certificate_path, known.identity._key_path)
            if kind == "self-signed":
                directory = agent.identity._key_path.parent
                return _context(agent, directory / "self-signed.pem", agent.identity._key_path)
            return _issue(agent, tmp_path, expired=kind.startswith("expired"))

        return Script(context=build)

    names = [world.call(world.create_hostile(script(kind))) for kind in CERTIFICATES]
    agents = [world.call(world.wait_agent(name, given=False)) for name in names]
    with world.watched():
        time.sleep(2 * ATTACK_S)
    for kind, agent in zip(CERTIFICATES, agents, strict=True):
        assert agent.requests[routes.IDENTITY_REQUEST] > 0, kind
        assert agent.requests[routes.SESSION] == 0 and not agent.given.is_set(), kind


def _answers(agent: HostileAgent, nonce: str) -> dict[str, Any]:
    good = agent.answer_identity(nonce)
    rsa_like = str(good["csr"]).replace("A", "B")
    return {
        "nothing": b"",
        "no JSON": b"{",
        "no UTF-8": b"\xff\xfe",
        "null": None,
        "a list": [],
        "a text": "hello",
        "empty": {},
        "no versions": {**good, "versions": None},
        "other versions": {**good, "versions": [2**70]},
        "versions of no numbers": {**good, "versions": ["x", None, [], {}]},
        "endless versions": {**good, "versions": list(range(50_000))},
        "infinite version": b'{"versions": [1e400], "instanceID": "", "csr": "", "hmac": ""}',
        "another instance": {**good, "instanceID": "i-0"},
        "no instance": {**good, "instanceID": None},
        "a name with lines": {**good, "instanceID": "i-\n1\x1b[31m"},
        "no proof": {**good, "hmac": None},
        "a false proof": {**good, "hmac": "00" * 32},
        "a proof of no ASCII": {**good, "hmac": "\u00e9"},
        "no request": {**good, "csr": None},
        "a broken request": {**good, "csr": rsa_like},
        "a long request": {**good, "csr": "x" * 200_000},
        "too much": b" " * (1 << 20),
    }


KINDS = [
    "nothing",
    "no JSON",
    "no UTF-8",
    "null",
    "a list",
    "a text",
    "empty",
    "no versions",
    "other versions",
    "versions of no numbers",
    "endless versions",
    "infinite version",
    "another instance",
    "no instance",
    "a name with lines",
    "no proof",
    "a false proof",
    "a proof of no ASCII",
    "no request",
    "a broken request",
    "a long request",
    "too much",
]


def test_an_agent_whose_identity_answer_is_broken_is_given_no_pod(world: World) -> None:
    def script(kind: str) -> Script:
        async def identify(agent: HostileAgent, request: web.Request) -> web.StreamResponse:
            answer = _answers(agent, (await request.json())["nonce"])[kind]
            return web.Response(body=answer) if isinstance(answer, bytes) else web.json_response(answer)

        return Script(handlers={routes.IDENTITY_REQUEST: identify})

    names = [world.call(world.create_hostile(script(kind))) for kind in KINDS]
    agents = [world.call(world.wait_agent(name, given=False)) for name in names]
    with world.watched():
        for agent in agents:
            world.call(until("it is asked who it is", lambda a=agent: _is_asked(a, routes.IDENTITY_REQUEST)))
        time.sleep(ATTACK_S)
    for kind, agent in zip(KINDS, agents, strict=True):
        assert agent.requests[routes.SESSION] == 0 and not agent.given.is_set(), kind


def test_an_answer_to_the_identity_exchange_or_the_session_hurts_nobody(world: World) -> None:
    paths = (routes.IDENTITY_REQUEST, routes.IDENTITY_CERTIFICATE, routes.SESSION)
    asked = []
    with world.watched():
        kinds = list(itertools.product(paths, ANSWERS))
        names = [world.call(world.create_hostile(Script(handlers={path: answer}))) for path, answer in kinds]
        asked += [
            (path, world.call(world.wait_agent(name, given=False)))
            for (path, _), name in zip(kinds, names, strict=True)
        ]
        time.sleep(2 * ATTACK_S)
    assert all(agent.requests[path] for path, agent in asked)
