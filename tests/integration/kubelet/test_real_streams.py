"""Exec, attach, port-forward and logs through provider and agent to a real containerd, over TLS on both hops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.kubelet.pod import start_pod
from tests.unit.kubelet.rig import ADMIN, FakeHandle, Rig, make_instance, make_pod
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.stats.sampler import Sampler

pytestmark = pytest.mark.real

SERVER = "echo started; while true; do echo tick; sleep 0.05; done & exec httpd -f -p 8080 -h /etc"


@pytest.fixture
async def rig(containerd: PrivateContainerd, runtime: ContainerRuntime, tmp_path: Path) -> AsyncIterator[Rig]:
    built = Rig(tmp_path, runtime=runtime)
    built.view = await start_pod(containerd, runtime, "sh", "-c", SERVER)
    built.source.handles.append(FakeHandle(make_pod(), built.view.status, make_instance()))
    await built.start()
    yield built
    await built.stop()


async def execute(rig: Rig, *command: str, stdin: bytes = b"") -> tuple[bytes, bytes, dict[str, object]]:
    """Run a command over WebSocket v4; returns stdout, stderr and the final Status."""
    streams: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
    query = [("command", word) for word in command]
    query += [("output", "1"), ("error", "1"), *([("input", "1")] if stdin else [])]
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"https://127.0.0.1:{rig.server.port}/exec/ns/web/c",
            params=query,
            headers=ADMIN,
            protocols=["v4.channel.k8s.io"],
            ssl=rig.ca.client_context(),
        ) as websocket,
    ):
        if stdin:
            await websocket.send_bytes(b"\x00" + stdin)
        async for message in websocket:
            streams[message.data[0]] += message.data[1:]
    return streams[1], streams[2], json.loads(streams[3])


async def test_exec_returns_output_and_exit_code(rig: Rig) -> None:
    assert await execute(rig, "sh", "-c", "echo out; echo err >&2") == (
        b"out\n",
        b"err\n",
        {"metadata": {}, "status": "Success"},
    )
    _, _, status = await execute(rig, "sh", "-c", "exit 7")
    assert status["details"] == {"causes": [{"reason": "ExitCode", "message": "7"}]}


async def test_exec_passes_stdin(rig: Rig) -> None:
    stdout, _, status = await execute(rig, "head", "-c", "300000", stdin=b"x" * 300_000)
    assert (len(stdout), status["status"]) == (300_000, "Success")


async def test_a_request_line_may_be_long(rig: Rig) -> None:
    stdout, _, _ = await execute(rig, "echo", "y" * 60_000)
    assert stdout == b"y" * 60_000 + b"\n"


async def test_port_forward_reaches_the_pods_loopback(rig: Rig) -> None:
    await execute(rig, "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1:8080/passwd; do sleep 0.05; done")
    received = b""
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"https://127.0.0.1:{rig.server.port}/portForward/ns/web?port=8080",
            headers=ADMIN,
            protocols=["v4.channel.k8s.io"],
            ssl=rig.ca.client_context(),
        ) as websocket,
    ):
        await websocket.send_bytes(b"\x00GET /passwd HTTP/1.0\r\n\r\n")
        async for message in websocket:
            received += message.data[1:] if message.data[0] == 0 else b""
            if b"root:" in received:
                break
    assert b"200 OK" in received


async def test_logs_are_followed_until_the_container_ends(rig: Rig, runtime: ContainerRuntime) -> None:
    lines: list[bytes] = []
    five_ticks = asyncio.Event()

    async def follow() -> None:
        async with aiohttp.ClientSession() as http:
            url = f"https://127.0.0.1:{rig.server.port}/containerLogs/ns/web/c?follow=true"
            async with http.get(url, headers=ADMIN, ssl=rig.ca.client_context()) as response:
                async for text in response.content:
                    lines.append(text)
                    if lines.count(b"tick\n") == 5:
                        five_ticks.set()

    follower = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        await five_ticks.wait()
        await runtime.stop_container(rig.view.container, 0)
        rig.view.status = {}
        await follower
    assert lines[0] == b"started\n"


async def test_stats_of_a_real_container_are_never_zero(rig: Rig, runtime: ContainerRuntime) -> None:
    sampler = Sampler(rig.view, runtime)
    message = await sampler.sample()
    assert message is not None
    (container,) = message["pod"]["containers"]
    assert container["cpu"]["usageCoreNanoSeconds"] > 0
    assert container["memory"]["workingSetBytes"] > 0
    assert message["pod"]["process_stats"]["process_count"] >= 1
    assert message["pod"]["network"]["name"] == "eth0"
    sandbox = next(item for item in message["cadvisor"] if item["container"] == "")
    assert any(sample[0] == "container_network_receive_bytes_total" for sample in sandbox["samples"])
