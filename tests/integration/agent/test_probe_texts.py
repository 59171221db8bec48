"""What probes find and how they tell it. probe_texts_1_37.jsonl: what the prober of a kubelet 1.37.2 did.

Each line is a readiness probe with the server it met (raw bytes of each connection: a greeting, what is awaited, the
reply, how it ends) or the container runtime's answer to an exec. "want": its result and event, what the server was
asked, and how often the runtime was. @PORT@ stands for the port, @LOCAL@ for the one of the probe's own side.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, observed, pod, running
from vk_provider.agent.runtime import ExecResult, RuntimeServiceError
from vk_provider.agent.worker.http.get import HttpClient
from vk_provider.agent.worker.probes.manager import ProbeManager
from vk_provider.agent.worker.probes.probe import Prober
from vk_provider.jsontypes import Json

CASES = [json.loads(line) for line in Path(__file__).with_name("probe_texts_1_37.jsonl").read_text().splitlines()]
OTHER_WORDS = {"half a head and closed", "odd status line", "odd header", "odd length"}
"""The parser of HTTP is another one, and says otherwise what is wrong with a head; a failure it is for both."""
EMPTY_QUERY = "path /x?"
"""The question mark of an empty query is not sent."""

RAN_OUT = re.compile(r"timeout", re.IGNORECASE)
"""In the recorded event: the probe's own time limit ended it. All others get a limit that a busy machine keeps."""
PATIENT_S = 20


class RecordedExec:
    """exec_sync with the recorded answer of the container runtime."""

    def __init__(self, answer: Json) -> None:
        self._answer = answer
        self.commands: list[list[str]] = []
        self.timeouts: list[float] = []

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        self.commands.append(command)
        self.timeouts.append(timeout_s)
        if code := self._answer.get("code"):
            raise RuntimeServiceError(code, self._answer["message"])
        written = (self._answer.get(name, "").encode() for name in ("stdout", "stderr"))
        return ExecResult(*written, self._answer.get("exit", 0))


class RecordedServer:
    """Plays the recorded connections, the last of them again and again."""

    def __init__(self, connections: list[Json]) -> None:
        self._connections = connections
        self._count = 0
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = self._connections[min(self._count, len(self._connections) - 1)]
        self._count += 1
        try:
            writer.write(told.get("greeting", "").encode("latin-1"))
            await self._await(told.get("await"), reader)
            await asyncio.sleep(told.get("delay") or 0)
            port = writer.get_extra_info("sockname")[1]
            writer.write(told.get("reply", "").replace("@PORT@", str(port)).encode("latin-1"))
            if told["then"] == "hold":
                await reader.read()
            elif told["then"] == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _await(self, what: str | None, reader: asyncio.StreamReader) -> None:
        if what == "head":
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        elif what == "h2":
            await reader.readexactly(24)
            frame_type, flags = -1, 0
            while (frame_type, flags & 1) != (0, 1):  # DATA that ends the stream
                head = await reader.readexactly(9)
                frame_type, flags = head[3], head[4]
                await reader.readexactly(int.from_bytes(head[:3], "big"))


class Events:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.any = asyncio.Event()

    def warn(self, reason: str, message: str, field_path: str = "") -> None:
        assert field_path == "spec.containers{main}"
        self.told.append(f"Warning {reason} {message}")
        self.any.set()


@contextlib.asynccontextmanager
async def serving(case: Json, server: RecordedServer) -> AsyncIterator[int]:
    """Yield the port; without a recorded server nobody listens there, at first or at all."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))

    async def serve() -> None:
        await asyncio.sleep(case.get("late") or 0)
        listening = await asyncio.start_server(server.serve, sock=bound)
        try:
            await asyncio.Event().wait()
        finally:
            listening.close()

    task = asyncio.create_task(serve()) if case.get("server") else None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        yield int(bound.getsockname()[1])
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        bound.close()


async def run_probe(case: Json) -> Json:
    """Run the probe of a case once, as the worker does it."""
    server, events, runtime = RecordedServer(case.get("server") or []), Events(), RecordedExec(case.get("exec") or {})
    ready, looked = asyncio.Event(), Prober(runtime, HttpClient())
    async with serving(case, server) as port:
        text = json.dumps(case["container"]).replace('"@PORT@"', str(port)).replace("@PORT@", str(port))
        fields = json.loads(text)
        fields["readinessProbe"].update(periodSeconds=1000, failureThreshold=1)
        if "exec" not in case and not any(RAN_OUT.search(event) for event in case["want"].get("events") or []):
            fields["readinessProbe"]["timeoutSeconds"] = PATIENT_S
        main = container("main", **fields)
        recorder: Any = events
        manager = ProbeManager(looked, recorder, ready.set)
        manager.sync(pod(main), observed(running(main, started_at_ns=1)), "127.0.0.1", terminating=False)
        waits = {asyncio.ensure_future(ready.wait()), asyncio.ensure_future(events.any.wait())}
        async with asyncio.timeout(30):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        for each in waits:
            each.cancel()
        result = manager.results.readiness["main-10"]
        await manager.close()
    seen: Json = {"events": events.told or None, "result": "success" if result == "success" else "none"}
    if server.heads and not (case.get("server") or [{}])[0].get("greeting"):
        seen["requests"] = server.heads
    if runtime.commands:
        seen.update(commands=runtime.commands, timeouts=runtime.timeouts)
    return json.loads(json.dumps(seen).replace(f":{port}", ":@PORT@"))


def normal(told: Json) -> Json:
    """Headers are a set: Go sorts them. Addresses of the probe's own side are not told here."""
    requests = [sort_head(head) for head in told.get("requests") or []]
    events = [re.sub(r"tcp \S+->\S+: ", "tcp: ", event) for event in told.get("events") or []]
    return {**told, "requests": requests, "events": events}


def sort_head(head: str) -> list[str]:
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    return [first, *sorted(line.strip() for line in lines)]


@functools.cache
def play() -> dict[str, Json]:
    """Several cases at once: many of them wait for a time limit."""

    async def play_all() -> list[Json]:
        some = asyncio.Semaphore(8)

        async def play_one(case: Json) -> Json:
            async with some:
                return await run_probe(case)

        return await asyncio.gather(*(play_one(case) for case in CASES))

    return dict(zip((case["name"] for case in CASES), asyncio.run(play_all()), strict=True))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_a_probe_finds_and_tells_the_same_as_a_kubelets(case: Json) -> None:
    seen, want = normal(play()[case["name"]]), normal(case["want"])
    if case["name"] in OTHER_WORDS:
        assert seen.pop("events") != want.pop("events")
    if case["name"] == EMPTY_QUERY:
        assert seen.pop("requests") != want.pop("requests")
    if "grpc" in case["container"]["readinessProbe"]:  # dialled more often than by Go within the same time
        del seen["requests"], want["requests"]
    assert seen == want
