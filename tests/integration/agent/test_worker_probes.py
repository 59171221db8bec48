"""Probes against real servers on loopback: what each kind calls success, and the words for what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from grpclib.health.check import ServiceStatus
from grpclib.health.service import Health
from grpclib.server import Server

from vk_provider.agent.runtime import ExecResult, RuntimeServiceError
from vk_provider.agent.worker.http.get import HttpClient
from vk_provider.agent.worker.probes.probe import Prober, ProbeTarget
from vk_provider.jsontypes import Json


class FakeExec:
    """exec_sync of the runtime, with a prepared answer."""

    def __init__(self) -> None:
        self.answer: ExecResult | RuntimeServiceError = ExecResult(b"", b"", 0)
        self.commands: list[list[str]] = []

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        self.commands.append(command)
        if isinstance(self.answer, RuntimeServiceError):
            raise self.answer
        return self.answer


@pytest.fixture
async def http_port() -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.StreamResponse:
        kind = request.path.strip("/")
        if kind == "away":
            return web.Response(status=302, headers={"Location": "http://other.example/"}, text="gone")
        if kind == "here":
            return web.Response(status=302, headers={"Location": "/200"})
        if kind == "headers":
            wanted = "x", "kube-probe/1.37", "*/*"
            seen = request.headers["Host"], request.headers["User-Agent"], request.headers["Accept"]
            return web.Response(status=200 if seen == wanted else 400)
        return web.Response(status=int(kind), text="body")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


@pytest.fixture
async def exec_fake() -> FakeExec:
    return FakeExec()


@pytest.fixture
async def prober(exec_fake: FakeExec) -> AsyncIterator[Prober]:
    yield Prober(exec_fake, HttpClient())


TARGET = ProbeTarget({"name": "main", "env": [{"name": "A", "value": "1"}]}, "cid", "127.0.0.1")


@pytest.mark.parametrize(
    ("path", "verdict", "output"),
    [
        ("/200", "success", "body"),
        ("/399", "warning", "Probe terminated redirects, Response body: body"),
        ("/404", "failure", "HTTP probe failed with statuscode: 404"),
        ("/500", "failure", "HTTP probe failed with statuscode: 500"),
        ("/here", "success", "body"),
        ("/away", "warning", "Probe terminated redirects, Response body: gone"),
    ],
)
async def test_http_answers_count_by_their_status(
    prober: Prober, http_port: int, path: str, verdict: str, output: str
) -> None:
    outcome = await prober.probe({"httpGet": {"path": path, "port": http_port}}, TARGET)
    assert (outcome.verdict, outcome.output) == (verdict, output)


async def test_http_headers_are_the_kubelets_and_the_pods(prober: Prober, http_port: int) -> None:
    action = {"path": "/headers", "port": http_port, "httpHeaders": [{"name": "Host", "value": "x"}]}
    assert (await prober.probe({"httpGet": action}, TARGET)).verdict == "success"


async def test_a_closed_port_fails_in_gos_words(prober: Prober, unused_tcp_port: int) -> None:
    outcome = await prober.probe({"httpGet": {"path": "/x", "port": unused_tcp_port}}, TARGET)
    address = f"127.0.0.1:{unused_tcp_port}"
    assert outcome.verdict == "failure"
    assert outcome.output == f'Get "http://{address}/x": dial tcp {address}: connect: connection refused'
    outcome = await prober.probe({"tcpSocket": {"port": unused_tcp_port}}, TARGET)
    assert outcome.output == f"dial tcp {address}: connect: connection refused"


async def test_https_to_a_plain_server_fails(prober: Prober, http_port: int) -> None:
    action = {"scheme": "HTTPS", "path": "/200", "port": http_port}
    outcome = await prober.probe({"httpGet": action}, TARGET)
    assert outcome.verdict == "failure"
    assert "server gave HTTP response to HTTPS client" in outcome.output


async def test_an_open_port_is_success(prober: Prober, http_port: int) -> None:
    assert (await prober.probe({"tcpSocket": {"port": http_port}}, TARGET)).verdict == "success"


async def test_grpc_health_is_asked_by_service(prober: Prober, unused_tcp_port: int) -> None:
    well, ill = ServiceStatus(), ServiceStatus()
    well.set(True)
    ill.set(False)

    class Well:
        def __mapping__(self) -> Json:
            return {"/well.Service/Call": None}

    class Ill:
        def __mapping__(self) -> Json:
            return {"/ill.Service/Call": None}

    server = Server([Health({Well(): [well], Ill(): [ill]})])
    await server.start("127.0.0.1", unused_tcp_port)
    try:
        outcome = await prober.probe({"grpc": {"port": unused_tcp_port, "service": "well.Service"}}, TARGET)
        assert (outcome.verdict, outcome.output) == ("success", "service healthy")
        outcome = await prober.probe({"grpc": {"port": unused_tcp_port, "service": "ill.Service"}}, TARGET)
        assert outcome.verdict == "failure"
        assert outcome.output == 'service unhealthy (responded with "NOT_SERVING")'
    finally:
        server.close()
        await server.wait_closed()


async def test_grpc_without_a_server_fails_when_its_time_is_over(prober: Prober, unused_tcp_port: int) -> None:
    outcome = await prober.probe({"grpc": {"port": unused_tcp_port}}, TARGET)
    assert outcome.verdict == "failure"
    address = f"127.0.0.1:{unused_tcp_port}"
    assert outcome.output == (f'timeout: failed to connect service "{address}" within 1s: context deadline exceeded')


async def test_exec_counts_by_exit_code_and_knows_plain_variables(prober: Prober, exec_fake: FakeExec) -> None:
    probe = {"exec": {"command": ["echo", "$(A)", "$(B)"]}}
    exec_fake.answer = ExecResult(b"out", b"err", 1)
    outcome = await prober.probe(probe, TARGET)
    assert (outcome.verdict, outcome.output) == ("failure", "outerr")
    assert exec_fake.commands == [["echo", "1", "$(B)"]]


async def test_an_exec_that_takes_too_long_is_a_failure(prober: Prober, exec_fake: FakeExec) -> None:
    exec_fake.answer = RuntimeServiceError("DEADLINE_EXCEEDED", "timeout")
    outcome = await prober.probe({"exec": {"command": ["sleep", "9"]}, "timeoutSeconds": 2}, TARGET)
    assert (outcome.verdict, outcome.output) == ("failure", 'command timed out: "sleep 9" timed out after 2s')


async def test_an_exec_that_cannot_be_run_is_tried_three_times(prober: Prober, exec_fake: FakeExec) -> None:
    exec_fake.answer = RuntimeServiceError("NOT_FOUND", "no such container")
    outcome = await prober.probe({"exec": {"command": ["true"]}}, TARGET)
    assert outcome.verdict == "error"
    assert len(exec_fake.commands) == 3
