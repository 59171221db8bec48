"""Questions: the tokens that containers wait for, and what the provider has answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.wire.identity import MAX_TOKENS, IdentityAnswer, token_digest

LIMIT_S = 10.0
"""For an answer: SDKs wait a second or two, and ask again."""
MAX_KEPT = 8
NEW_RATE, NEW_BURST = 1.0, 16.0
"""Tokens a second that the provider is asked about, whatever a container does."""


@dataclass(slots=True, eq=False)
class _Question:
    token: str = field(repr=False)
    answer: asyncio.Future[IdentityAnswer]
    waiting: int = 0


class Questions:
    """tell: is told all tokens that are waited for, whenever they change, and sends them to the provider; never blocks.
    clock: seconds."""

    def __init__(self, tell: Callable[[list[str]], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._open: dict[str, _Question] = {}
        self._kept: dict[str, tuple[IdentityAnswer, float]] = {}
        self._pace = TokenBucket(NEW_RATE, NEW_BURST, clock())

    async def ask(self, token: str) -> IdentityAnswer:
        """The provider's answer. Containers that ask with one token at the same time are one question."""
        digest = token_digest(token)
        kept = self._kept.get(digest)
        if kept is not None and self._clock() < kept[1]:
            return kept[0]
        question = self._open.get(digest)
        if question is None:
            if len(self._open) >= MAX_TOKENS:
                return _refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests. Other tokens wait for their answers")
            if not self._pace.try_take(self._clock()):
                return _refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests. The pod has shown too many tokens")
            question = self._open[digest] = _Question(token, asyncio.get_running_loop().create_future())
            self._tell_open()
        question.waiting += 1
        try:
            async with asyncio.timeout(LIMIT_S):
                return await asyncio.shield(question.answer)
        except TimeoutError:
            return _refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "The provider of the node does not answer")
        finally:
            question.waiting -= 1
            if not question.waiting and self._open.get(digest) is question:
                del self._open[digest]
                question.answer.cancel()
                self._tell_open()

    def receive(self, answers: Mapping[str, IdentityAnswer]) -> None:
        """From the provider; those that nobody waits for are kept as well as others."""
        for digest, answer in answers.items():
            if answer["status"] == HTTPStatus.OK and answer["freshForSeconds"] > 0:
                self._kept.pop(digest, None)
                self._kept[digest] = answer, self._clock() + answer["freshForSeconds"]
                if len(self._kept) > MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
            question = self._open.pop(digest, None)
            if question is not None:
                if not question.answer.done():
                    question.answer.set_result(answer)
                self._tell_open()

    def _tell_open(self) -> None:
        self._tell([each.token for each in self._open.values()])


def _refuse(status: HTTPStatus, text: str) -> IdentityAnswer:
    return IdentityAnswer(status=int(status), body=text, freshForSeconds=0.0)
