"""What an agent may say of its instance's end."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vk_provider.wire.inbound import WireError, decode_up

NOTICE: dict[str, Any] = {"type": "notice", "podUID": "u", "action": "terminate", "time": "2026-11-28T10:00:00Z"}


def test_a_notice_is_taken_as_it_is():
    assert decode_up(orjson.dumps(NOTICE)) == NOTICE


@pytest.mark.parametrize(
    "change",
    [{"action": "explode"}, {"time": "tomorrow"}, {"time": "2026-11-28T10:00:00Z" * 3}, {"time": 1}, {"podUID": "/"}],
)
def test_anything_else_is_a_violation(change: dict[str, Any]):
    with pytest.raises(WireError):
        decode_up(orjson.dumps(NOTICE | change))
