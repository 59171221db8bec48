"""How long demands are gathered for one call: nobody alone waits, and a burst is a few calls."""

from __future__ import annotations

import pytest

from vk_provider.instances.gathering import FIRST_PAUSE_S, Gathering


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def call_when_allowed(gathering: Gathering, clock: Clock, since: float) -> float:
    """When the call was made."""
    clock.now += gathering.wait_s(since)
    gathering.note_call()
    return clock.now


def test_one_pod_alone_waits_for_nobody() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(20):
        assert gathering.wait_s(clock.now) == 0.0
        gathering.note_call()
        clock.now += 1.0


def test_pods_that_keep_coming_for_ten_seconds_are_ten_calls_at_most() -> None:
    clock = Clock()
    gathering, calls = Gathering(2.0, clock), []
    while clock.now < 110.0:
        calls.append(call_when_allowed(gathering, clock, clock.now) - 100.0)
    assert len(calls) <= 10 and calls[:3] == pytest.approx([0.0, FIRST_PAUSE_S, 3 * FIRST_PAUSE_S])


def test_nobody_waits_longer_than_the_limit_however_many_groups_there_are() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    made = [call_when_allowed(gathering, clock, 100.0) for _ in range(50)]
    assert max(made) <= 102.0
    assert sum(at < 102.0 for at in made) <= 6, "the others have gathered all that came meanwhile"


def test_pods_that_come_one_after_the_other_do_not_make_each_other_wait() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(20):
        assert gathering.wait_s(clock.now) == 0.0
        gathering.note_call(is_alone=True)
        clock.now += 1.5 * FIRST_PAUSE_S


def test_the_pause_shrinks_while_it_is_quiet() -> None:
    clock = Clock()
    gathering = Gathering(2.0, clock)
    for _ in range(10):
        call_when_allowed(gathering, clock, clock.now)
    clock.now += 30.0
    gathering.note_call()
    assert 0.0 < gathering.wait_s(clock.now) <= FIRST_PAUSE_S


def test_without_a_limit_nothing_is_gathered() -> None:
    gathering = Gathering(0.0)
    gathering.note_call()
    assert gathering.wait_s(0.0) == 0.0
