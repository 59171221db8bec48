"""A flood of messages is a few lines and a count."""

from __future__ import annotations

import logging

import pytest

from vk_provider.aiokit.lograte import LimitedLog


def test_what_is_held_back_is_counted_in_the_next_message(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    limited = LimitedLog(logging.getLogger("flood"), per_minute=6, burst=2, clock=lambda: now[0])
    for number in range(1000):
        limited.warning("bad token %d", number)
    now[0] = 10.0
    limited.warning("bad token %s", "last")
    limited.warning("bad token %s", "too many")
    assert caplog.messages == ["bad token 0", "bad token 1", "bad token last (and 998 messages like it)"]
