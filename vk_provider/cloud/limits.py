"""A Cloud with a time limit for every call: a call without an answer is a CloudError that may be retried.

The effect of a call without an answer is unknown. A launch is looked up by its tags and repeated with its client token;
a termination may simply be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from vk_provider.cloud.base import Cloud
from vk_provider.cloud.limitedabilities import within
from vk_provider.cloud.wrapped import ResultT, Verb, WrappedCloud


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds by verb. A launch is the slowest: a group waits for the slots of the `local` cloud. Pods wait for a
    start, and are launched for without an answer. What only reads is asked again sooner (a page of 1,000 instances
    takes EC2 one to three seconds): one listing is under way at a time, and what waits for it are deletions of pods,
    lost sessions and launches in doubt.
    """

    launch_s: float = 300.0
    list_s: float = 20.0
    describe_s: float = 20.0
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
        return await within(self._limits_s[verb], _WORDS.get(verb, verb), call)


_WORDS: dict[Verb, str] = {"tags": "create tags", "offerings": "describe offerings", "runtime": "describe runtime"}
