"""Tokens that agents tell: only the pod's own become credentials, at a bounded rate, and answers are remembered."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.eks_auth import ACCOUNT, EksAuth
from tests.jwt import AUDIENCE, make_token
from vk_provider.agentclient.session import Slot
from vk_provider.aiokit.lograte import LimitedLog
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.podidentity import EksPodIdentity
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.errors import KubeApiError
from vk_provider.podidentity import answerer
from vk_provider.podidentity.answerer import PodIdentityAnswerer
from vk_provider.wire.identity import IdentityMessage, token_digest

ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/web/session"


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Session:
    def __init__(self) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, slot: Slot, message: Any) -> None:
        assert slot is Slot.CREDENTIALS and message["type"] == "credentials"
        self.sent.put_nowait(message["answers"])


class Record:
    """What is used of a PodRecord."""

    def __init__(self, uid: str) -> None:
        self.uid, self.key = uid, f"ns/{uid}"
        self.session: Session | None = Session()


class Api:
    """TokenReview: the API server knows these tokens."""

    def __init__(self) -> None:
        self.pods: dict[str, str] = {}
        self.asked = 0
        self.error: KubeApiError | None = None
        self.at_once = self.most_at_once = 0

    async def find_pod(self, token: str, audience: str) -> str:
        assert audience == AUDIENCE
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        return self.pods.get(token, "")


class World:
    def __init__(self, cloud: EksAuth, client: AwsClient) -> None:
        self.cloud, self.api, self.clock = cloud, Api(), Clock()
        self.answerer = PodIdentityAnswerer(EksPodIdentity(client, "prod", self.clock), self.api, self.clock)

    def issue(self, record: Record, **more: Any) -> str:
        """A token of the pod that API server and EKS Auth accept."""
        token = make_token(record.uid, **more)
        self.api.pods[token] = record.uid
        self.cloud.roles[token] = ROLE
        return token

    def tell(self, record: Any, *tokens: str) -> None:
        self.answerer.receive(record, IdentityMessage(type="identity", podUID=record.uid, tokens=list(tokens)))

    async def ask(self, record: Record, token: str) -> Any:
        self.tell(record, token)
        assert record.session is not None
        async with asyncio.timeout(30):
            answers = await record.session.sent.get()
        assert list(answers) == [token_digest(token)]
        return answers[token_digest(token)]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    cloud = EksAuth("prod")
    await cloud.start()
    client = AwsClient(AwsCloudSettings(region="eu-central-1", endpoint_url=cloud.url, eks_cluster="prod"))
    await client.start()
    made = World(cloud, client)
    try:
        yield made
    finally:
        await made.answerer.close()
        await client.close()
        await cloud.stop()


async def test_the_pods_own_token_becomes_the_document_that_sdks_read(world: World) -> None:
    record = Record("u-1")
    answer = await world.ask(record, world.issue(record))
    assert answer["status"] == 200 and answer["freshForSeconds"] == pytest.approx(10800, abs=5)
    document = json.loads(answer["body"])
    assert list(document) == ["AccessKeyId", "SecretAccessKey", "Token", "AccountId", "Expiration"]
    assert document["AccountId"] == ACCOUNT and document["Token"] == "session"
    ends = time.mktime(time.strptime(document["Expiration"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert ends == pytest.approx(time.time() + 21600, abs=5)
    assert world.cloud.signed == [True]


async def test_an_answer_is_remembered_until_half_of_its_life(world: World) -> None:
    record = Record("u-1")
    token = world.issue(record, expires_in_s=86400)
    for _ in range(3):
        assert (await world.ask(record, token))["status"] == 200
    world.clock.offset = 10000
    assert (await world.ask(record, token))["freshForSeconds"] == pytest.approx(800, abs=10)
    assert len(world.cloud.asked) == world.api.asked == 1
    world.clock.offset = 10900
    assert (await world.ask(record, token))["status"] == 200
    assert len(world.cloud.asked) == world.api.asked == 2


async def test_the_token_of_another_pod_is_refused_before_anybody_is_asked(world: World) -> None:
    victim, thief = Record("u-1"), Record("u-2")
    token = world.issue(victim)
    assert (await world.ask(victim, token))["status"] == 200
    stolen = await world.ask(thief, token)
    assert stolen["status"] == 403 and "another pod" in stolen["body"] and "hush" not in stolen["body"]
    assert len(world.cloud.asked) == world.api.asked == 1


async def test_a_forged_token_gets_no_further_than_the_api_server(world: World) -> None:
    record = Record("u-1")
    answer = await world.ask(record, make_token("u-1", mark="forged"))
    assert answer["status"] == 403 and world.api.asked == 1 and not world.cloud.asked


async def test_a_token_whose_pod_is_another_for_the_api_server_is_refused(world: World) -> None:
    record = Record("u-1")
    token = world.issue(record)
    world.api.pods[token] = "u-9"
    assert (await world.ask(record, token))["status"] == 403 and not world.cloud.asked


@pytest.mark.parametrize(
    ("code", "status", "answered"),
    [
        ("AccessDeniedException", 400, 400),
        ("ExpiredTokenException", 400, 400),
        ("InvalidTokenException", 400, 400),
        ("ResourceNotFoundException", 404, 404),
        ("ThrottlingException", 429, 429),
        ("ServiceUnavailableException", 503, 503),
        ("InternalServerException", 500, 500),
    ],
)
async def test_what_eks_auth_refuses_has_its_status(world: World, code: str, status: int, answered: int) -> None:
    record = Record("u-1")
    world.cloud.fails = (code, status)
    token = world.issue(record)
    answer = await world.ask(record, token)
    assert answer["status"] == answered and code in answer["body"]
    await world.ask(record, token)
    assert len(world.cloud.asked) == (1 if answered in (400, 404) else 2), "what may pass is asked again"


async def test_an_api_server_that_does_not_answer_is_an_error_that_is_asked_again_after(world: World) -> None:
    record = Record("u-1")
    token = world.issue(record)
    world.api.error = KubeApiError(503, "ServiceUnavailable", "down")
    assert (await world.ask(record, token))["status"] == 500
    world.api.error = None
    assert (await world.ask(record, token))["status"] == 200


async def test_a_pod_that_shows_ever_new_tokens_is_slowed_down_and_others_are_not(world: World) -> None:
    hostile, honest = Record("u-1"), Record("u-2")
    answers = [(await world.ask(hostile, make_token("u-1", mark=str(n))))["status"] for n in range(40)]
    assert answers[:8] == [403] * 8 and answers.count(429) >= 28
    assert world.api.asked <= 12
    assert (await world.ask(honest, world.issue(honest)))["status"] == 200


async def until_quiet(world: World) -> None:
    await asyncio.wait(list(world.answerer._tasks), timeout=30)
    assert not world.answerer._tasks


async def test_a_refused_token_is_not_reviewed_again_soon(world: World) -> None:
    record, token = Record("u-1"), make_token("u-1", mark="forged")
    for _ in range(5):
        assert (await world.ask(record, token))["status"] == 403
    assert world.api.asked == 1
    world.clock.offset = answerer.REFUSED_FOR_S + 1
    assert (await world.ask(record, token))["status"] == 403 and world.api.asked == 2


async def test_pods_that_forge_tokens_share_what_the_api_server_is_asked_and_honest_ones_do_not(world: World) -> None:
    hostile = [Record(f"h-{n}") for n in range(40)]
    for mark in range(6):
        await asyncio.gather(*(world.ask(each, make_token(each.uid, mark=f"f{mark}")) for each in hostile))
    # One each before the first verdict; after it, what all of them have together.
    assert world.api.asked <= len(hostile) + answerer.DOUBTED_BURST + 10
    honest = Record("u-1")
    assert (await world.ask(honest, world.issue(honest)))["status"] == 200
    doubted = hostile[0]
    world.clock.offset = 60
    assert (await world.ask(doubted, world.issue(doubted)))["status"] == 200
    assert not world.answerer._pods[doubted.uid].is_doubted


async def test_one_pod_has_one_turn_and_few_tokens_that_wait(world: World) -> None:
    record: Any = Record("u-1")
    tokens = [world.issue(record, mark=str(n)) for n in range(8)]
    world.tell(record, *tokens[:4])
    world.tell(record, *tokens[4:])
    assert len(world.answerer._tasks) == 4
    assert {each["status"] for each in (await record.session.sent.get()).values()} == {429}
    await until_quiet(world)
    assert world.api.most_at_once <= 1 and world.api.asked == 0, "nobody waits any more for those that had begun"


async def test_the_answers_kept_of_one_pod_are_few_and_push_out_no_others(world: World) -> None:
    hostile, honest = Record("u-1"), Record("u-2")
    token = world.issue(honest)
    assert (await world.ask(honest, token))["status"] == 200
    for number in range(3 * answerer.MAX_KEPT):
        world.clock.offset = 10.0 * number
        own = world.issue(hostile, expires_in_s=86400, mark=str(number))
        assert (await world.ask(hostile, own))["status"] == 200
    assert len(world.answerer._pods["u-1"].kept) == answerer.MAX_KEPT
    asked = len(world.cloud.asked)
    assert (await world.ask(honest, token))["status"] == 200 and len(world.cloud.asked) == asked


async def test_a_clock_that_is_set_back_gives_no_answer_a_longer_life_and_locks_no_pod_out(world: World) -> None:
    record = Record("u-1")
    world.clock.offset = 10_000
    token = world.issue(record, expires_in_s=86400)
    first = await world.ask(record, token)
    world.clock.offset = 0
    again = await world.ask(record, token)
    assert first["status"] == again["status"] == 200 and world.api.asked == 2, "it is asked for anew"
    assert (await world.ask(record, token))["freshForSeconds"] <= again["freshForSeconds"] and world.api.asked == 2


async def test_tokens_and_credentials_are_in_no_log(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(0)
    monkeypatch.setattr(answerer, "limited_log", LimitedLog(logging.getLogger("vk_provider.test")))
    record = Record("u-1")
    tokens = [world.issue(record), make_token("u-1", mark="forged"), make_token("u-2"), "a.b.c"]
    bodies = [(await world.ask(record, token))["body"] for token in tokens]
    world.cloud.fails = ("AccessDeniedException", 400)
    tokens.append(world.issue(record, mark="denied"))
    bodies.append((await world.ask(record, tokens[-1]))["body"])
    lines = [line.getMessage() for line in caplog.records if line.name.startswith("vk_provider")]
    assert len(lines) >= 4
    secret = json.loads(bodies[0])["SecretAccessKey"]
    shown = "\n".join([*lines, *bodies[1:], repr(world.answerer._pods)])
    assert secret not in shown and not any(token in shown for token in tokens)


async def test_a_burst_of_pods_waits_for_its_turns(world: World) -> None:
    records = [Record(f"u-{n}") for n in range(200)]
    answers = await asyncio.gather(*(world.ask(each, world.issue(each)) for each in records))
    assert {each["status"] for each in answers} == {200} and len(world.cloud.asked) == 200
    assert 1 < world.api.most_at_once <= answerer.AT_ONCE


async def test_so_many_pods_wait_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answerer, "MAX_ASKING", 0)
    record = Record("u-1")
    token = world.issue(record)
    assert (await world.ask(record, token))["status"] == 429
    monkeypatch.setattr(answerer, "MAX_ASKING", 1)
    assert (await world.ask(record, token))["status"] == 200


async def test_nothing_is_kept_of_a_pod_that_is_gone(world: World) -> None:
    record: Any = Record("u-1")
    token = world.issue(record)
    await world.ask(record, token)
    world.answerer.leave(record)
    assert not world.answerer._pods
    again = Record("u-1")
    await world.ask(again, token)
    assert len(world.cloud.asked) == 2


async def test_a_session_that_has_ended_is_sent_nothing(world: World) -> None:
    record = Record("u-1")
    token = world.issue(record)
    session, record.session = record.session, None
    world.tell(record, token)
    for _ in range(100):
        if world.answerer._pods["u-1"].kept:
            break
        await asyncio.sleep(0.01)
    record.session = session
    assert (await world.ask(record, token))["status"] == 200 and len(world.cloud.asked) == 1
