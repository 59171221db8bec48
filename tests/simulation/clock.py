"""Virtual time: replaces the clocks of `time` before anything of the provider is imported, and what `secrets` draws.

The provider reads its clocks from the module `time`, also as default arguments, so this is the one place where they are
replaced. Until `run_until` or a loop moves it, the time stands still.
"""

from __future__ import annotations

import random
import secrets
import time

EPOCH = 1_800_000_000.0
"""Unix time at which each simulation begins."""
START = 1_000.0
"""Monotonic time then: zero means "never" in many places."""


class VirtualClock:
    """`now`: monotonic seconds."""

    def __init__(self) -> None:
        self.now = START

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return EPOCH + self.now

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)


CLOCK = VirtualClock()
real_cpu = time.process_time


def install(clock: VirtualClock = CLOCK) -> None:
    """Once in a process, before vk_provider is imported."""
    time.time = clock.time
    time.monotonic = time.perf_counter = clock.monotonic
    time.time_ns = clock.time_ns
    time.monotonic_ns = time.perf_counter_ns = clock.monotonic_ns


def seed_secrets(seed: int) -> None:
    """What the provider draws as secrets, and its jitter, follow from the seed."""
    random.seed(seed)
    drawn = random.Random(f"secrets of {seed}")
    secrets.token_hex = lambda count=32: drawn.randbytes(count or 32).hex()
