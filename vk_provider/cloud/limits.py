"""A Cloud with a time limit for every call: a call without an answer is a CloudError that may be retried.

The effect of a call without an answer is unknown. A launch is looked up by its tags and repeated with its client token;
a termination may simply be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from vk_provider.cloud.base import Cloud
from vk_provider.cloud.wrapped import ResultT, Verb, WrappedCloud
from vk_provider.errors import CloudError


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds by verb. A launch is the slowest: a group waits for the slots of the `local` cloud. Pods wait for a
    start, and are launched for without an answer."""

    launch_s: float = 300.0
    list_s: float = 60.0
    describe_s: float = 60.0
    terminate_s: float = 60.0
    tags_s: float = 60.0
    offerings_s: float = 60.0
    stop_s: float = 60.0
    start_s: float = 30.0


class LimitedCloud(WrappedCloud):
    """`start` and `close` are not limited: the process waits for them at start and stop. Nor are `notices`, which wait
    for what happens."""

    def __init__(self, cloud: Cloud, limits: CallLimits | None = None) -> None:
        super().__init__(cloud)
        of = limits or CallLimits()
        self._limits_s: dict[Verb, float] = {
            "launch": of.launch_s,
            "list": of.list_s,
            "describe": of.describe_s,
            "terminate": of.terminate_s,
            "stop": of.stop_s,
            "start": of.start_s,
            "tags": of.tags_s,
            "offerings": of.offerings_s,
            "runtime": of.offerings_s,
        }

    async def _around(self, verb: Verb, call: Awaitable[ResultT]) -> ResultT:
        limit_s = self._limits_s[verb]
        scope = asyncio.timeout(limit_s)
        try:
            async with scope:
                return await call
        except TimeoutError:
            if not scope.expired():
                raise
            raise CloudError(f"{_WORDS.get(verb, verb)}: no answer within {limit_s:g} s") from None


_WORDS: dict[Verb, str] = {"tags": "create tags", "offerings": "describe offerings", "runtime": "describe runtime"}
