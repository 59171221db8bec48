"""When things are done to a twin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.differential.actions import Actor, read_all, read_lines
from tests.differential.case import Action, Case
from tests.differential.history import History
from tests.differential.twin import Twin, lanes
from vk_provider.jsontypes import Json

ACTIONS = (
    Action(0, "exec", {"cmd": ["hang"]}),
    Action(0, "remove", {"kind": "Secret", "name": "s"}),
    Action(0, "logs", {}),
    Action(0, "patch", {"body": {}}),
)


def test_what_asks_and_what_changes_keep_their_order_and_their_numbers() -> None:
    assert [[(number, action.verb) for number, action in lane] for lane in lanes(ACTIONS)] == [
        [(0, "exec"), (2, "logs")],
        [(1, "remove"), (3, "patch")],
    ]


async def test_a_command_that_hangs_puts_off_no_change(monkeypatch: Any) -> None:
    changed, order = asyncio.Event(), []

    async def perform(_: Actor, action: Action) -> Json:
        if action.verb == "exec":
            await changed.wait()
        order.append(action.verb)
        if action.verb == "patch":
            changed.set()
        return {}

    monkeypatch.setattr(Actor, "perform", perform)
    nothing: Any = None
    case = Case("c", {"metadata": {"name": "x"}, "spec": {}}, actions=ACTIONS)
    twin = Twin(nothing, nothing, case, History("diff-v-00", "nodeless"))
    async with asyncio.timeout(30):
        await asyncio.gather(*(twin._act_in_turn(lane, 0.0) for lane in lanes(case.actions)))
    assert order == ["remove", "patch", "exec", "logs"]
    assert list(twin.history.answers) == ["1 remove", "3 patch", "0 exec", "2 logs"]


@pytest.mark.parametrize(
    ("given", "wanted", "read"),
    [(b"a\nb\nc\n", 2, b"a\nb\n"), (b"a\n", 2, b"a\n"), (b"a\nb", 2, b"a\nb"), (b"", 1, b"")],
)
async def test_an_attach_waits_for_its_lines_or_the_end(given: bytes, wanted: int, read: bytes) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(given)
    stream.feed_eof()
    assert await read_lines(stream, wanted) == read


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"head ")
    asyncio.get_running_loop().call_soon(stream.feed_data, b"body")
    asyncio.get_running_loop().call_soon(stream.feed_eof)
    assert await read_all(stream) == b"head body"
