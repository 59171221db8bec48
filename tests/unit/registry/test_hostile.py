"""Registries that hang, and what they cost those that answer."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from vk_provider.registry.client import RegistryClient, RegistryError
from vk_provider.registry.guard import GuardedResolver
from vk_provider.registry.lanes import DOUBTED_S, PROMPT_S, Lanes


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Whoever answers for evil.example does not until the event is set; all other names are 192.0.2.1."""
    released = threading.Event()

    def look_up(host: str, port: int, *more: Any) -> list[Any]:
        if host.endswith("evil.example"):
            released.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield released
    released.set()


async def test_names_that_are_never_answered_hold_up_no_known_name(names: threading.Event) -> None:
    """They had the event loop's few threads for names, which the API server's name needs, too."""
    resolver = GuardedResolver(())
    assert [each["host"] for each in await resolver.resolve("good.example", 443)] == ["192.0.2.1"]
    hanging = [asyncio.create_task(resolver.resolve(f"{number}.evil.example", 443)) for number in range(64)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: 1) == 1
        assert await resolver.resolve("good.example", 443)
    assert not any(task.done() for task in hanging)
    names.set()
    assert len(await asyncio.gather(*hanging)) == 64
    await resolver.close()


async def test_a_name_that_begins_to_hang_is_among_the_new_ones_again(names: threading.Event) -> None:
    resolver = GuardedResolver(())
    names.set()
    await resolver.resolve("evil.example", 443)
    names.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await resolver.resolve("evil.example", 443)
    assert "evil.example" not in resolver._found
    names.set()
    await resolver.close()


async def test_a_known_name_stays_one_while_it_is_looked_up_and_when_that_fails(
    names: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else names that hang would be before it in the next look-up, at the same time or after a failure of DNS."""
    resolver = GuardedResolver(())
    names.set()
    await resolver.resolve("slow.evil.example", 443)
    names.clear()
    first = asyncio.create_task(resolver.resolve("slow.evil.example", 443))
    await asyncio.sleep(0.05)
    assert "slow.evil.example" in resolver._found
    names.set()
    await first

    def fail(*_: Any) -> list[Any]:
        raise socket.gaierror("no server answers")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror):
        await resolver.resolve("slow.evil.example", 443)
    assert "slow.evil.example" in resolver._found
    await resolver.close()


class Requests:
    """That hang until they are cancelled, and such as are answered."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lanes = Lanes(lambda: self.now)
        self.running: list[str] = []

    async def ask(
        self, host: str, *, hangs: bool = False, seconds: float = 0.0, error: Exception | None = None
    ) -> None:
        async with self.lanes.turn(host):
            self.running.append(host)
            try:
                if hangs:
                    await asyncio.Event().wait()
                self.now += seconds
                if error is not None:
                    raise error
            finally:
                self.running.remove(host)


async def test_hosts_that_hang_take_no_turn_from_those_that_have_answered() -> None:
    requests = Requests()
    with pytest.raises(RegistryError):
        await requests.ask("good", error=RegistryError("a denial is an answer, too"))
    tasks = [asyncio.create_task(requests.ask(f"evil{number % 40}", hangs=True)) for number in range(200)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        for _ in range(100):
            await requests.ask("good")
    assert len(requests.running) == 8 and max(map(requests.running.count, requests.running)) <= 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not requests.lanes._other.hosts and not requests.lanes._prompt.hosts


async def test_one_hanging_host_leaves_turns_to_other_new_ones() -> None:
    requests = Requests()
    tasks = [asyncio.create_task(requests.ask("evil", hangs=True)) for _ in range(50)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await requests.ask("new")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_host_that_has_hung_is_doubted_for_a_while() -> None:
    requests = Requests()
    await requests.ask("slow", seconds=PROMPT_S + 1)
    assert "slow" not in requests.lanes._answered
    await requests.ask("slow")
    assert "slow" not in requests.lanes._answered, "an answer in between does not count"
    requests.now += DOUBTED_S
    await requests.ask("slow")
    assert "slow" in requests.lanes._answered


async def test_those_that_wait_for_a_new_host_go_on_together_once_it_has_answered() -> None:
    requests, gate = Requests(), asyncio.Event()

    async def first() -> None:
        async with requests.lanes.turn("new"):
            await gate.wait()

    waiting = [asyncio.create_task(first()) for _ in range(2)]
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(requests.ask("new", hangs=True)) for _ in range(20)]
    await asyncio.sleep(0)
    assert requests.running == []
    gate.set()
    await asyncio.gather(*waiting)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(requests.running) == 8
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_that_a_registry_sends_is_decompressed() -> None:
    """4 MiB of an answer were 4 GiB."""
    bomb, asked = gzip.compress(bytes(64 << 20)), []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Accept-Encoding"))
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    client = RegistryClient({host: {"plain_http": True}})
    try:
        began = time.process_time()
        with pytest.raises(RegistryError):
            await client.fetch_architectures(f"{host}/x:1", None)
        assert time.process_time() - began < 0.3
        assert asked == ["identity"]
    finally:
        await client.close()
        await runner.cleanup()
