"""Texts for sessions: made once, from what each agent has."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.unit.routing.objects import AppliedTable, endpoints, message_of, service
from vk_provider.routing import tables as module
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.wire.packed import decode_packed


class Published:
    """A table of `count` Services that is published after each change."""

    def __init__(self, count: int) -> None:
        self.index = ServiceIndex("n1")
        for number in range(count):
            self.index.apply_service(service(number))
        self.source = ServiceTables(("10.255.0.1",))

    async def publish(self) -> str:
        await self.source.publish(self.index.table())
        return self.source.revision

    async def move(self, number: int, address: str) -> str:
        self.index.apply_slice(endpoints(number, address))
        return await self.publish()


async def test_before_anything_is_published_there_is_no_text() -> None:
    source = ServiceTables(())
    assert source.revision == "" and await source.text_from("") is None


async def test_an_agent_without_a_table_is_sent_it_whole_with_the_nodes_addresses() -> None:
    published = Published(3)
    revision = await published.publish()
    text = await published.source.text_from("")
    message = message_of(text)
    assert message["revision"] == revision and message["nodeAddresses"] == ["10.255.0.1"]
    assert "add element inet vk-services pods4" not in message["text"]  # each agent's own
    assert await published.source.text_from("::77") is text  # an unknown revision
    assert await published.source.text_from(revision) is None


async def test_an_agent_with_an_earlier_table_is_sent_the_difference_which_is_made_once() -> None:
    published = Published(3)
    first = await published.publish()
    applied = AppliedTable()
    applied.apply(message_of(await published.source.text_from("")))
    await published.move(1, "10.1.0.1")
    last = await published.move(2, "10.1.0.2")
    text = await published.source.text_from(first)
    applied.apply(message_of(text))
    assert applied.revision == last and applied.shows(published.index.table())
    assert await published.source.text_from(first) is text


async def test_a_whole_table_is_sent_on_while_a_small_difference_leads_from_it_to_the_newest() -> None:
    published = Published(20)
    first = await published.publish()
    whole = await published.source.text_from("")
    last = await published.move(1, "10.1.0.1")
    again = await published.source.text_from("")
    assert again is whole
    applied = AppliedTable()
    applied.apply(message_of(again))
    assert applied.revision == first
    applied.apply(message_of(await published.source.text_from(first)))
    assert applied.revision == last and applied.shows(published.index.table())
    for number in range(2, 10):
        last = await published.move(number, "10.1.0.1")
    assert message_of(await published.source.text_from(""))["revision"] == last


async def test_large_texts_are_made_in_a_thread_and_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    encode = module.encode_whole

    def note(*arguments: Any, packed: bool) -> object:
        made.append("loop" if threading.current_thread() is threading.main_thread() else "thread")
        return encode(*arguments, packed=packed)

    monkeypatch.setattr(module, "encode_whole", note)
    published = Published(module.INLINE_SERVICES + 1)
    await published.publish()
    texts = await asyncio.gather(*(published.source.text_from("") for _ in range(10)))
    assert len({id(text) for text in texts}) == 1 and made == ["thread"]


async def test_only_an_agent_that_takes_packed_elements_is_sent_them_and_only_of_many_services() -> None:
    small, large = Published(module.PACKED_SERVICES - 1), Published(module.PACKED_SERVICES)
    for published in (small, large):
        await published.publish()
        text = message_of(await published.source.text_from(""))
        assert "packed" not in text and "service-ips4" in text["text"]
    assert message_of(await small.source.text_from("", packed=True)) == message_of(await small.source.text_from(""))
    frame = await large.source.text_from("", packed=True)
    packed = message_of(frame)
    assert decode_packed(packed["packed"]) and "10.96.1.1" not in packed["text"]
    assert len(packed["text"]) + len(packed["packed"]) < len(text["text"]) / 2
    # Each form is made once, and a difference follows it until too much has changed.
    await large.move(1, "10.1.0.1")
    assert await large.source.text_from("", packed=True) is frame
    for number in range(module.PACKED_SERVICES // module.WHOLE_SHARE + 1):
        last = await large.move(number, "10.1.0.2")
    for is_packed in (True, False):
        assert message_of(await large.source.text_from("", packed=is_packed))["revision"] == last


async def test_a_session_that_ends_while_a_text_is_made_takes_it_from_nobody_else() -> None:
    published = Published(module.INLINE_SERVICES + 1)
    await published.publish()
    first, second = (asyncio.create_task(published.source.text_from("")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert message_of(await second)["revision"] == published.source.revision


async def test_a_text_that_could_not_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, packed: bool) -> None:
        raise ValueError("too large")

    published = Published(module.INLINE_SERVICES + 1)
    await published.publish()
    with monkeypatch.context() as patched:
        patched.setattr(module, "encode_whole", fail)
        with pytest.raises(ValueError):
            await published.source.text_from("")
    assert message_of(await published.source.text_from(""))["revision"] == published.source.revision


async def test_followers_are_told_of_each_new_revision_until_they_leave() -> None:
    published, told = Published(2), list[str]()
    leave = published.source.follow(lambda: told.append("a"))
    published.source.follow(lambda: told.append("b"))
    await published.publish()
    await published.publish()  # nothing has changed
    leave()
    leave()
    await published.move(1, "10.1.0.1")
    assert told == ["a", "b", "b"] and published.source.followers == 1


async def test_sessions_that_wait_for_one_text_do_not_go_on_in_the_same_turn_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "INLINE_SERVICES", 1)
    published = Published(3)
    await published.publish()
    turn, turns_of_texts = 0, []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async def follow() -> None:
        assert await published.source.text_from("") is not None
        turns_of_texts.append(turn)

    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(follow() for _ in range(100)))
    counting.cancel()
    assert max(turns_of_texts.count(number) for number in turns_of_texts) <= 2
