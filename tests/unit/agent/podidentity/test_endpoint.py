"""The address that containers ask: on a loopback address here, with the paths, texts and codes of EKS's agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from tests.jwt import make_token
from vk_provider.agent.podidentity import endpoint, questions
from vk_provider.agent.podidentity.endpoint import IdentityEndpoint, asks_for_role
from vk_provider.agent.podidentity.questions import Questions
from vk_provider.wire.identity import IdentityAnswer, token_digest
from vk_provider.wire.inbound import WireError, decode_up
from vk_provider.wire.session import FEATURES

HOST = "127.0.170.23"
URI = {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"}
POD: Any = {"metadata": {"uid": "u-1"}, "spec": {"containers": [{"name": "c", "env": [URI]}]}}


def answer(status: int = 200, body: str = '{"AccessKeyId": "A"}', fresh_s: float = 100.0) -> IdentityAnswer:
    return IdentityAnswer(status=status, body=body, freshForSeconds=fresh_s)


class World:
    """port: what the endpoint has taken."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.open: list[str] = []
        self.reports: list[str] = []
        self.now = 0.0
        self.heard = asyncio.Event()
        self.questions = Questions(self._take, lambda: self.now)
        self.endpoint = IdentityEndpoint(self.questions, ("10.0.0.5",), self.reports.append, (HOST,), 0)

    def _take(self, tokens: list[str]) -> None:
        self.open = tokens
        if tokens:
            self.told.append(tokens)
            self.heard.set()

    @property
    def port(self) -> int:
        return self.endpoint.addresses[0][1]

    async def get(self, token: str | None, host: str = HOST, path: str = "/v1/credentials") -> tuple[int, str, str]:
        headers = {"Host": host, **({} if token is None else {"Authorization": token})}
        url = f"http://{HOST}:{self.port}{path}"
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            return response.status, response.content_type, await response.text()

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                self.heard.clear()
                await self.heard.wait()

    def reply(self, token: str, given: IdentityAnswer) -> None:
        self.endpoint.receive({"type": "credentials", "answers": {token_digest(token): given}})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    task = asyncio.create_task(made.endpoint.run())
    made.endpoint.take_pod(POD, True)
    async with asyncio.timeout(30):
        await made.endpoint.listening.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_container_gets_what_the_provider_answers_and_it_is_asked_once(world: World) -> None:
    token = make_token("u-1")
    asking = [asyncio.create_task(world.get(token)) for _ in range(20)]
    await world.until_told(1)
    await asyncio.sleep(0.05)
    world.reply(token, answer())
    assert set(await asyncio.gather(*asking)) == {(200, "application/json", '{"AccessKeyId": "A"}')}
    assert (await world.get(token))[0] == 200
    assert world.told == [[token]]
    world.now = 101.0
    late = asyncio.create_task(world.get(token))
    await world.until_told(2)
    world.reply(token, answer(403, "Access Denied. no"))
    assert await late == (403, "text/plain", "Access Denied. no\n")


async def test_a_refusal_is_not_remembered(world: World) -> None:
    token = make_token("u-1")
    for count in (1, 2):
        asking = asyncio.create_task(world.get(token))
        await world.until_told(count)
        world.reply(token, answer(400, "no", 10.0))
        assert (await asking)[0] == 400


@pytest.mark.parametrize(
    ("token", "status", "text"),
    [
        (None, 400, "Service account token cannot be empty"),
        ("", 400, "Service account token cannot be empty"),
        ("not-a-token", 400, "Service account token cannot be parsed"),
        ("a.b.c/d", 400, "Service account token cannot be parsed"),
        ("a.b." + "c" * 8190, 400, ""),
    ],
)
async def test_what_is_no_token_goes_no_further(world: World, token: str | None, status: int, text: str) -> None:
    found = await world.get(token)
    assert found[0] == status and text in found[2]
    assert not world.told


async def test_another_host_name_is_refused(world: World) -> None:
    """A page in a browser, or a proxy that is led here, names the host that it believes to reach."""
    status, _, text = await world.get(make_token("u-1"), host="metadata.example")
    assert status == 403 and "invalid address" in text and not world.told


async def test_there_is_nothing_else(world: World) -> None:
    assert (await world.get(make_token("u-1"), path="/latest/meta-data"))[0] == 404
    url = f"http://{HOST}:{world.port}/v1/credentials"
    async with aiohttp.ClientSession() as http, http.put(url) as response:
        assert response.status == 405


async def test_a_provider_that_does_not_answer_is_an_error_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "LIMIT_S", 0.1)
    assert (await world.get(make_token("u-1")))[0] == 500 and not world.open
    monkeypatch.undo()
    token = make_token("u-1")
    asking = asyncio.create_task(world.get(token))
    await world.until_told(2)
    world.reply(token, answer())
    assert (await asking)[0] == 200


async def test_few_tokens_at_once(world: World) -> None:
    waiting = [asyncio.create_task(world.get(make_token("u-1", mark=str(n)))) for n in range(4)]
    await world.until_told(4)
    assert (await world.get(make_token("u-1", mark="5")))[0] == 429
    first, *others = world.told[-1]
    assert len(others) == 3
    world.reply(first, answer())
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in done] == [200] and world.open == others
    for token in others:
        world.reply(token, answer(400, "no"))
    await asyncio.gather(*waiting)
    assert not world.open, "a new session asks for nothing that nobody waits for"


async def test_a_container_with_ever_new_tokens_is_slowed_down_before_the_provider_hears_of_it() -> None:
    now, told = [0.0], list[list[str]]()
    asked = Questions(told.append, lambda: now[0])

    async def ask(mark: int) -> int:
        token = make_token("u-1", mark=str(mark))
        asking = asyncio.create_task(asked.ask(token))
        await asyncio.sleep(0)
        asked.receive({token_digest(token): answer(403, "no")})
        return (await asking)["status"]

    assert [await ask(mark) for mark in range(24)] == [403] * 16 + [429] * 8
    assert len([tokens for tokens in told if tokens]) == 16
    now[0] = 3.0
    assert await ask(99) == 403


async def test_a_provider_that_answers_for_no_roles_any_more_is_told_no_token(world: World) -> None:
    """It may be an older one, for which such a message breaks the protocol."""
    world.endpoint.take_pod(POD, False)
    assert (await world.get(make_token("u-1")))[0] == 503 and not world.told
    world.endpoint.take_pod(POD, True)
    asking = asyncio.create_task(world.get(token := make_token("u-1")))
    await world.until_told(1)
    world.reply(token, answer())
    assert (await asking)[0] == 200


async def test_a_flood_of_connections_leaves_the_agent_its_file_descriptors(world: World) -> None:
    opened = [await asyncio.open_connection(HOST, world.port) for _ in range(endpoint.LIMITS.connections + 40)]
    oldest = [asyncio.create_task(reader.read()) for reader, _ in opened[:40]]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*oldest, return_exceptions=True)
    token = make_token("u-1")
    asking = asyncio.create_task(world.get(token))
    await world.until_told(1)
    world.reply(token, answer())
    assert (await asking)[0] == 200
    for _, writer in opened:
        writer.close()


async def test_a_request_that_is_never_complete_is_cut_off(world: World) -> None:
    reader, writer = await asyncio.open_connection(HOST, world.port)
    writer.write(b"GET /v1/credentials HTTP/1.1\r\nAuthorization: " + b"x" * (64 << 10))
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            assert b" 4" in (await reader.read())[:16]
    writer.close()


async def test_so_many_requests_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_REQUESTS", 1)
    token = make_token("u-1")
    first = asyncio.create_task(world.get(token))
    await world.until_told(1)
    assert (await world.get(token))[0] == 429
    world.reply(token, answer())
    assert (await first)[0] == 200


@pytest.mark.parametrize(
    ("pod", "asks"),
    [
        (POD, True),
        ({"spec": {"initContainers": [{"env": [{**URI, "value": "http://[fd00:ec2::23]/v1/credentials"}]}]}}, True),
        ({"spec": {"containers": [{"env": [{**URI, "value": "http://169.254.170.2/v2/x"}]}]}}, False),
        ({"spec": {"containers": [{"env": [{**URI, "value": "http://[bad"}]}]}}, False),
        ({"spec": {"containers": [{"env": [{"name": URI["name"], "valueFrom": {}}]}]}}, False),
        ({"spec": {"containers": [{"name": "c"}]}}, False),
    ],
)
def test_a_pod_asks_for_a_role_when_the_webhook_has_told_it_to(pod: Any, asks: bool) -> None:
    assert asks_for_role(pod) is asks


async def test_nothing_listens_for_pods_without_a_role_or_where_the_provider_does_not_answer() -> None:
    made = World()
    task = asyncio.create_task(made.endpoint.run())
    made.endpoint.take_pod(POD, False)
    made.endpoint.take_pod({"spec": {"containers": [{"name": "c"}]}}, True)
    await asyncio.sleep(0.1)
    assert not made.endpoint.listening.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_port_that_is_taken_is_told_once_and_tried_again(world: World) -> None:
    reports: list[str] = []
    second = IdentityEndpoint(world.questions, (), reports.append, (HOST,), world.port)
    task = asyncio.create_task(second.run())
    second.take_pod(POD, True)
    await asyncio.sleep(0.8)  # it is tried again after 0.2 s
    assert len(reports) == 1 and f"{HOST}:{world.port}" in reports[0]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_message_passes_the_providers_door_and_nothing_larger_does() -> None:
    assert "identity" in FEATURES
    token = make_token("u-1")
    message = {"type": "identity", "podUID": "u-1", "tokens": [token]}
    assert decode_up(orjson.dumps(message)) == message
    for bad in ([token] * 5, ["a.b"], ["a.b." + "c" * 9000], ["a.b.c\n"], [7]):
        with pytest.raises(WireError):
            decode_up(orjson.dumps({**message, "tokens": bad}))
