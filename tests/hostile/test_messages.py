"""Thousands of generated messages on real sessions of hostile pods, while the honest pod is asked for everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile.messages import MESSAGES
from tests.hostile.speakers import Speaker, say_all
from tests.hostile.templates import KINDS
from tests.hostile.world import World

REDIAL_AT_ONCE = True
WANTED = int(os.environ.get("VK_HOSTILE_MESSAGES", "1000"))
"""Messages on real sessions, of every kind; `make hostile` says ten thousand, which take minutes. Ten thousand go
through the same door in test_door."""
EXAMPLES = WANTED // 20
SPEAKERS = 4

CONVERSATIONS = st.tuples(*[st.lists(MESSAGES, max_size=20)] * 8).map(lambda parts: [*chain.from_iterable(parts)])
"""Some twenty messages; a failure shrinks to one."""


@pytest.fixture(scope="module")
def speakers(world: World) -> Iterator[list[Speaker]]:
    yield [Speaker(world) for _ in range(SPEAKERS)]


def test_thousands_of_messages_on_real_sessions_hurt_nobody_else(world: World, speakers: list[Speaker]) -> None:
    broken = False

    @settings(
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
    )
    @given(CONVERSATIONS)
    def converse(messages: list[bytes]) -> None:
        nonlocal broken
        if broken:
            world.restart_provider()  # so that what is tried next is judged by itself
        broken = True
        world.call(say_all(speakers, messages))
        world.call(world.honest.check_memory_routes())
        faults = world.find_faults()
        assert not faults, "\n".join(faults)
        broken = False

    with world.watched():
        converse()
    said = sum((speaker.said for speaker in speakers), Counter[str]())
    assert said.total() >= WANTED
    assert all(said[kind] >= WANTED // 100 for kind in KINDS), said
