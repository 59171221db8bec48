"""A launch has no time limit: one whose answer is lost is waited for, and so are all that come after it."""

from __future__ import annotations

from collections.abc import Awaitable

from vk_provider.cloud.limits import LimitedCloud
from vk_provider.cloud.wrapped import ResultT, Verb


def put_back() -> None:
    right = LimitedCloud._around

    async def around(self: LimitedCloud, verb: Verb, call: Awaitable[ResultT]) -> ResultT:
        return await call if verb == "launch" else await right(self, verb, call)

    LimitedCloud._around = around
