"""Generated messages of a hostile agent about tokens, through the door and to whoever answers them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import orjson
from hypothesis import HealthCheck, Phase, given, settings

from tests.hostile.messages import messages_like
from tests.hostile.templates import IDENTITY, OWN_UID
from tests.jwt import AUDIENCE
from tests.unit.kube.fakeclient import settle
from tests.unit.podidentity.test_answerer import Record
from vk_provider.cloud.podidentity import RoleAnswer
from vk_provider.podidentity.answerer import PodIdentityAnswerer
from vk_provider.wire.identity import MAX_TOKEN, MAX_TOKENS, IdentityMessage, token_digest
from vk_provider.wire.inbound import WireError, decode_up

TRIED = 600
seen: Counter[str] = Counter()


class Cloud:
    """PodIdentitySource and Reviewer of one pod: whatever is asked must be a token, and what is its own opens."""

    audience = AUDIENCE
    own = IDENTITY["tokens"][0]

    def __init__(self) -> None:
        self.reviewed: list[str] = []

    async def find_pod(self, token: str, audience: str) -> str:
        assert token.isascii() and len(token) <= MAX_TOKEN and token.count(".") == 2
        self.reviewed.append(token)
        return OWN_UID if token == self.own else ""

    async def assume_role(self, token: str) -> RoleAnswer:
        assert token == self.own
        return RoleAnswer(200, "{}", 100.0)


async def answer(message: IdentityMessage) -> None:
    cloud, record = Cloud(), Record(OWN_UID)
    source: Any = cloud
    told: Any = record
    answerer = PodIdentityAnswerer(source, cloud)
    answerer.receive(told, message)
    await settle()
    assert not answerer._tasks and len(cloud.reviewed) <= MAX_TOKENS
    answers: dict[str, Any] = {}
    assert record.session is not None
    while not record.session.sent.empty():
        answers = record.session.sent.get_nowait()
    assert set(answers) == {token_digest(token) for token in message["tokens"]}
    for digest, each in answers.items():
        assert (each["status"] == 200) == (digest == token_digest(cloud.own))
        assert each["body"].isprintable() and orjson.loads(orjson.dumps(each)) == each
        seen[str(each["status"])] += 1
    answerer.leave(told)
    await answerer.close()


@settings(
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    max_examples=TRIED,
    suppress_health_check=list(HealthCheck),
)
@given(messages_like(IdentityMessage, IDENTITY))
def test_tokens_of_any_shape_are_refused_in_one_line_or_are_the_pods_own(data: bytes) -> None:
    try:
        message = decode_up(data)
    except WireError as error:
        assert str(error).isprintable() and len(str(error)) < 300
        assert not any(token in str(error) for token in IDENTITY["tokens"])
        seen["broken"] += 1
        return
    if message["type"] == "identity":
        seen["taken"] += 1
        assert len(message["tokens"]) <= MAX_TOKENS and all(len(token) <= MAX_TOKEN for token in message["tokens"])
        json.dumps(message)
        asyncio.run(answer(message))


def test_enough_of_every_outcome_was_seen() -> None:
    """The test above means nothing when nearly everything is refused."""
    assert seen["taken"] > TRIED / 4 and seen["broken"] > TRIED / 10, seen
    assert seen["200"] > 2 and seen["400"] > 50 and seen["403"] > 2, seen
