"""Calls to the simulated cloud: refused beforehand, or answered late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vk_provider.cloud.codes import build_error
from vk_provider.cloud.simulated.faults import Failures, FaultDice


class Calls:
    """clock: Unix seconds."""

    def __init__(self, failures: Failures, dice: FaultDice, clock: Callable[[], float]) -> None:
        self._failures, self._dice, self._clock = failures, dice, clock

    def check(self, verb: str, count: int = 0) -> None:
        """Raises the CloudError of a call that is refused. count: instances that it is about."""
        self._failures.check_call(verb)
        now = self._clock()
        refusal = self._dice.throttle_call(verb, now)
        if refusal is None and count:
            refusal = self._dice.throttle_resources(verb, count, now)
        if refusal is not None:
            raise refusal

    async def answer(self, verb: str) -> None:
        """What was done is answered late, or not at all: then it raises a CloudError."""
        if late_s := self._dice.late_s():
            await asyncio.sleep(late_s)
        if self._dice.loses_answer():
            raise build_error("Unavailable", f"the answer to {verb} was lost")
