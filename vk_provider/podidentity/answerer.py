"""PodIdentityAnswerer: takes the tokens that agents tell, and sends the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from vk_provider.agentclient.session import Slot
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.lograte import LimitedLog
from vk_provider.aiokit.ratelimit import TokenBucket
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.podidentity import PodIdentitySource, RoleAnswer
from vk_provider.errors import KubeApiError
from vk_provider.podidentity.claims import find_fault
from vk_provider.pods.record import PodRecord
from vk_provider.wire.identity import (
    MAX_TOKENS,
    CredentialsMessage,
    IdentityAnswer,
    IdentityMessage,
    token_digest,
)

limited_log = LimitedLog(logging.getLogger(__name__))

POD_RATE, POD_BURST = 0.5, 8.0
"""Tokens a second that are proved for one pod: a pod has one an hour, a hostile one as many as it likes."""
DOUBTED_RATE, DOUBTED_BURST = 5.0, 20.0
"""Of all pods together whose last token was not theirs by the word of the API server: for it, such a token costs the
most, as it is shown to every authenticator. A pod whose next token is its own is one of the others again."""
REFUSED_FOR_S = 10.0
"""A token that was not the pod's is asked for again after that."""
AT_ONCE = 16
"""For all pods, and one for each: the API server and the cloud are asked. A burst of pods waits for its turns."""
MAX_ASKING = 2048
"""That wait for a turn, MAX_TOKENS of one pod; any more are told to come back."""
MAX_KEPT = 2 * MAX_TOKENS
"""Answers of one pod; those that were given longest ago are forgotten."""
_BUSY = RoleAnswer(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests. The pod has shown too many tokens", 0.0)


class Reviewer(Protocol):
    """kube.tokenreview.TokenReviewer."""

    async def find_pod(self, token: str, audience: str) -> str: ...


@dataclass(slots=True, eq=False)
class _Asking:
    """A pod whose agent waits. wanted: digests of the newest message; answers: those found, by digest; kept: answers
    that may be given again, and until when; is_doubted: see DOUBTED_RATE."""

    record: PodRecord
    bucket: TokenBucket
    wanted: frozenset[str] = frozenset()
    answers: dict[str, RoleAnswer] = field(default_factory=dict)
    proving: set[str] = field(default_factory=set)
    kept: OrderedDict[str, tuple[RoleAnswer, float]] = field(default_factory=OrderedDict)
    is_doubted: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def find_kept(self, digest: str, now: float) -> RoleAnswer | None:
        """None also after the clock was set back by more than the answer's age."""
        answer, until = self.kept.get(digest, (_BUSY, now))
        left_s = until - now
        is_fresh = 0 < left_s < answer.fresh_for_s + 1.0
        return RoleAnswer(answer.status, answer.body, min(left_s, answer.fresh_for_s)) if is_fresh else None

    def keep(self, digest: str, answer: RoleAnswer, now: float) -> None:
        self.kept[digest] = answer, now + answer.fresh_for_s
        self.kept.move_to_end(digest)
        if len(self.kept) > MAX_KEPT:
            self.kept.popitem(last=False)


class PodIdentityAnswerer:
    """pods.identities.PodIdentities. clock: Unix time."""

    is_on = True

    def __init__(self, source: PodIdentitySource, reviewer: Reviewer, clock: Callable[[], float] = time.time) -> None:
        self._source, self._reviewer, self._clock = source, reviewer, clock
        self._pods: dict[str, _Asking] = {}
        self._doubted = TokenBucket(DOUBTED_RATE, DOUBTED_BURST, clock())
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = BackgroundTasks()

    def receive(self, record: PodRecord, message: IdentityMessage) -> None:
        """See PodIdentities.receive."""
        pod = self._pods.get(record.uid)
        if pod is None or pod.record is not record:
            bucket = TokenBucket(POD_RATE, POD_BURST, self._clock())
            pod = self._pods[record.uid] = _Asking(record, bucket)
        tokens = {token_digest(token): token for token in message["tokens"]}
        pod.wanted, pod.answers = frozenset(tokens), {}
        for digest, token in tokens.items():
            known = pod.find_kept(digest, self._clock())
            if known is not None:
                pod.answers[digest] = known
            elif digest not in pod.proving:
                self._begin(pod, digest, token)
        if pod.answers:
            self._send(pod)

    def leave(self, record: PodRecord) -> None:
        """See PodIdentities.leave."""
        pod = self._pods.get(record.uid)
        if pod is not None and pod.record is record:
            del self._pods[record.uid]

    def _begin(self, pod: _Asking, digest: str, token: str) -> None:
        status, fault = find_fault(token, pod.record.uid, self._source.audience, self._clock())
        if status:
            limited_log.warning("pod %s: its role is refused: %s", pod.record.key, fault)
            pod.answers[digest] = RoleAnswer(status, fault, 0.0)
        elif not self._may_ask(pod):
            pod.answers[digest] = _BUSY
        else:
            pod.proving.add(digest)
            self._tasks.spawn(self._answer(pod, digest, token), f"role of pod {pod.record.uid}")

    def _may_ask(self, pod: _Asking) -> bool:
        """Whether one more token of the pod is proved. What is shared is taken last: no pod takes it from others while
        it has too many itself."""
        if len(pod.proving) >= MAX_TOKENS or len(self._tasks) >= MAX_ASKING:
            return False
        now = self._clock()
        return pod.bucket.try_take(now) and (not pod.is_doubted or self._doubted.try_take(now))

    async def _answer(self, pod: _Asking, digest: str, token: str) -> None:
        answer = RoleAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, "The credentials could not be found", 0.0)
        try:
            with contained(f"the role of pod {pod.record.key}"):
                async with pod.turn, self._turns:
                    if digest not in pod.wanted or self._pods.get(pod.record.uid) is not pod:
                        return  # nobody waits for it any more
                    answer = await self._find(pod, token)
        finally:
            pod.proving.discard(digest)
        if answer.status != HTTPStatus.OK:
            limited_log.warning("pod %s gets no role: %s", pod.record.key, answer.body)
        if self._pods.get(pod.record.uid) is not pod:
            return
        if answer.fresh_for_s > 0:
            pod.keep(digest, answer, self._clock())
        if digest in pod.wanted:
            pod.answers[digest] = answer
            self._send(pod)

    async def _find(self, pod: _Asking, token: str) -> RoleAnswer:
        try:
            uid = await self._reviewer.find_pod(token, self._source.audience)
        except KubeApiError as error:
            text = f"The service account token could not be reviewed: {error}"
            return RoleAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, text, 0.0)
        pod.is_doubted = uid != pod.record.uid
        if pod.is_doubted:
            text = "Access Denied. The API server does not know the service account token as this pod's"
            return RoleAnswer(HTTPStatus.FORBIDDEN, text, REFUSED_FOR_S)
        return await self._source.assume_role(token)

    def _send(self, pod: _Asking) -> None:
        session = pod.record.session
        if session is not None:
            answers = {digest: _describe(answer) for digest, answer in pod.answers.items()}
            session.put(Slot.CREDENTIALS, dict(CredentialsMessage(type="credentials", answers=answers)))

    async def close(self) -> None:
        """End the requests under way."""
        await self._tasks.close()


def _describe(answer: RoleAnswer) -> IdentityAnswer:
    return IdentityAnswer(status=int(answer.status), body=answer.body, freshForSeconds=answer.fresh_for_s)
