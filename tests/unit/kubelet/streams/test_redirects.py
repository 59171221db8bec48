"""An agent that redirects, behind the kubelet API and the provider's own connector, both real, over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.agentclient.test_https import IDENTITY, LOOPBACK
from tests.unit.agentclient.test_redirects import Redirecting
from tests.unit.kubelet.rig import FakeHandle, Rig, make_pod, running_status
from tests.unit.kubelet.streams.test_streaming import close, request
from vk_provider.agentclient.https import HttpsConnector

PLAIN = [("GET", "/containerLogs/ns/web/c"), ("POST", "/run/ns/web/c?cmd=ls"), ("POST", "/run/ns/web/uid-1/c?cmd=ls")]
UPGRADED = ["/exec/ns/web/c?output=1", "/attach/ns/web/c?output=1", "/portForward/ns/web"]


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[tuple[Rig, Redirecting]]:
    agent = Redirecting()
    connector = HttpsConnector(IDENTITY, certificate_ttl_s=900, port=await agent.start(tmp_path))
    rig = Rig(tmp_path, connector=connector)
    await rig.start()
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), LOOPBACK))
    yield rig, agent
    await rig.stop()
    await connector.close()
    await agent.stop()


@pytest.mark.parametrize("status", [302, 307, 401])
@pytest.mark.parametrize(("method", "path"), PLAIN)
async def test_no_request_is_led_elsewhere(
    behind: tuple[Rig, Redirecting], method: str, path: str, status: int
) -> None:
    rig, agent = behind
    agent.status = status
    answered, body, headers = await rig.ask(method, path, allow_redirects=False)
    assert answered == 500 and "i-1" in body and "elsewhere" not in body
    assert "Location" not in headers and agent.visits == []


@pytest.mark.parametrize("status", [302, 307, 401])
@pytest.mark.parametrize("path", UPGRADED)
async def test_no_stream_is_led_elsewhere(behind: tuple[Rig, Redirecting], path: str, status: int) -> None:
    rig, agent = behind
    agent.status = status
    reader, writer = await rig.open()
    writer.write(request(path))
    answer = await reader.read(-1)
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Location" not in answer and b"elsewhere" not in answer and agent.visits == []
    await close(writer)


async def test_what_an_agent_refuses_reaches_the_client_without_its_headers(behind: tuple[Rig, Redirecting]) -> None:
    rig, agent = behind
    agent.status, agent.headers = 404, {"Set-Cookie": "a=b", "Content-Type": "text/html", "Retry-After": "9"}
    for method, path in PLAIN:
        answered, body, headers = await rig.ask(method, path)
        assert (answered, body) == (404, "body")
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert not {"Location", "Set-Cookie", "Retry-After"} & set(headers)
