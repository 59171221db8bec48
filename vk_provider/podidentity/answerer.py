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
from vk_provider.wire.identity import CredentialsMessage, IdentityAnswer, IdentityMessage, token_digest

limited_log = LimitedLog(logging.getLogger(__name__))

POD_RATE, POD_BURST = 0.5, 8.0
"""Tokens a second that are proved for one pod: a pod has one an hour, a hostile one as many as it likes."""
AT_ONCE = 16
"""For all pods: the API server and the cloud are asked for each. A burst of pods waits for its turns."""
MAX_ASKING = 2048
"""That wait for a turn; any more are told to come back."""
MAX_KEPT = 4096
"""Answers; those that were given longest ago are forgotten."""
_BUSY = RoleAnswer(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests. The pod has shown too many tokens", 0.0)


class Reviewer(Protocol):
    """kube.tokenreview.TokenReviewer."""

    async def find_pod(self, token: str, audience: str) -> str: ...


@dataclass(slots=True, eq=False)
class _Asking:
    """A pod whose agent waits. wanted: digest to token, of the newest message; answers: those found, by digest."""

    record: PodRecord
    bucket: TokenBucket
    wanted: dict[str, str] = field(default_factory=dict, repr=False)
    answers: dict[str, RoleAnswer] = field(default_factory=dict)
    proving: set[str] = field(default_factory=set)


class PodIdentityAnswerer:
    """pods.identities.PodIdentities. clock: Unix time."""

    is_on = True

    def __init__(self, source: PodIdentitySource, reviewer: Reviewer, clock: Callable[[], float] = time.time) -> None:
        self._source, self._reviewer, self._clock = source, reviewer, clock
        self._pods: dict[str, _Asking] = {}
        self._kept: OrderedDict[tuple[str, str], tuple[RoleAnswer, float]] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = BackgroundTasks()

    def receive(self, record: PodRecord, message: IdentityMessage) -> None:
        """See PodIdentities.receive."""
        pod = self._pods.get(record.uid)
        if pod is None or pod.record is not record:
            bucket = TokenBucket(POD_RATE, POD_BURST, self._clock())
            pod = self._pods[record.uid] = _Asking(record, bucket)
        pod.wanted = {token_digest(token): token for token in message["tokens"]}
        pod.answers = {}
        for digest, token in pod.wanted.items():
            known = self._kept.get((record.uid, digest))
            if known is not None and self._clock() < known[1]:
                left_s = known[1] - self._clock()
                pod.answers[digest] = RoleAnswer(known[0].status, known[0].body, left_s)
            elif digest not in pod.proving:
                self._begin(pod, digest, token)
        if pod.answers:
            self._send(pod)

    def leave(self, record: PodRecord) -> None:
        """See PodIdentities.leave."""
        pod = self._pods.get(record.uid)
        if pod is not None and pod.record is record:
            del self._pods[record.uid]
            for key in [key for key in self._kept if key[0] == record.uid]:
                del self._kept[key]

    def _begin(self, pod: _Asking, digest: str, token: str) -> None:
        status, fault = find_fault(token, pod.record.uid, self._source.audience, self._clock())
        if status:
            limited_log.warning("pod %s: its role is refused: %s", pod.record.key, fault)
            pod.answers[digest] = RoleAnswer(status, fault, 0.0)
        elif len(self._tasks) >= MAX_ASKING or not pod.bucket.try_take(self._clock()):
            pod.answers[digest] = _BUSY
        else:
            pod.proving.add(digest)
            self._tasks.spawn(self._answer(pod, digest, token), f"role of pod {pod.record.uid}")

    async def _answer(self, pod: _Asking, digest: str, token: str) -> None:
        answer = RoleAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, "The credentials could not be found", 0.0)
        try:
            with contained(f"the role of pod {pod.record.key}"):
                async with self._turns:
                    answer = await self._find(pod.record, token)
        finally:
            pod.proving.discard(digest)
        if answer.status != HTTPStatus.OK:
            limited_log.warning("pod %s gets no role: %s", pod.record.key, answer.body)
        if self._pods.get(pod.record.uid) is not pod:
            return
        if answer.fresh_for_s > 0:
            self._keep((pod.record.uid, digest), answer)
        if digest in pod.wanted:
            pod.answers[digest] = answer
            self._send(pod)

    async def _find(self, record: PodRecord, token: str) -> RoleAnswer:
        try:
            uid = await self._reviewer.find_pod(token, self._source.audience)
        except KubeApiError as error:
            text = f"The service account token could not be reviewed: {error}"
            return RoleAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, text, 0.0)
        if uid != record.uid:
            text = "Access Denied. The API server does not know the service account token as this pod's"
            return RoleAnswer(HTTPStatus.FORBIDDEN, text, 0.0)
        return await self._source.assume_role(token)

    def _keep(self, key: tuple[str, str], answer: RoleAnswer) -> None:
        self._kept[key] = answer, self._clock() + answer.fresh_for_s
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

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
