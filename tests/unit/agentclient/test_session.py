"""One reader and one writer: pacing, greeting, slots."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.listener import Listener, ScriptedChannel, hello
from tests.unit.sleeps import record_sleeps
from tests.unit.wire.test_inbound import EVENT, STATUS
from vk_provider.agentclient import session as module
from vk_provider.agentclient.session import AgentSession, Outbox, Slot
from vk_provider.errors import AgentProtocolError, AgentUnreachableError


async def run(*messages: Any) -> tuple[list[Any], BaseException | None]:
    listener = Listener(AgentSession(ScriptedChannel(messages)))
    error = await listener.ended()
    return listener.seen, error


async def test_valid_messages_come_in_their_order_and_the_greeting_is_kept() -> None:
    session = AgentSession(ScriptedChannel([{**hello(), "features": ["a"]}, STATUS, EVENT]))
    listener = Listener(session)
    assert await listener.ended() is None
    assert [message["type"] for message in listener.seen] == ["hello", "status", "event"]
    assert session.hello is not None and session.hello["features"] == ["a"]


async def test_an_agent_from_before_there_were_features_goes_on_working() -> None:
    old = hello()
    del old["features"]
    assert await run(old, STATUS) == ([old, STATUS], None)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([STATUS], "did not begin with a greeting"),
        ([{**hello(), "version": 2}], "wire version 2"),
        ([hello(), hello()], "greeted twice"),
        ([hello(), b"{"], "broke the protocol"),
        ([hello(), {**STATUS, "status": []}], "status"),
    ],
)
async def test_a_violation_ends_the_session_and_says_how(messages: list[Any], words: str) -> None:
    channel = ScriptedChannel(messages, stays=True)
    listener = Listener(AgentSession(channel))
    error = await listener.ended()
    assert isinstance(error, AgentProtocolError) and words in str(error)
    assert channel.closed


async def test_an_agent_that_does_not_greet_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_LIMIT_S", 0.01)
    error = await Listener(AgentSession(ScriptedChannel([], stays=True))).ended()
    assert isinstance(error, AgentProtocolError) and "did not greet" in str(error)


async def test_a_flood_is_read_at_its_rate_only(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = record_sleeps(monkeypatch, module)
    monkeypatch.setattr(module, "MESSAGE_BURST", 10.0)
    session = AgentSession(ScriptedChannel([hello(), *[EVENT] * 30]), clock=lambda: 5.0)
    listener = Listener(session)
    await listener.ended()
    assert len(listener.seen) == 31
    assert len(slept) == 21 and slept[-1] == pytest.approx(21 / module.MESSAGE_RATE), "the greeting counts, too"


async def test_large_messages_are_paced_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = record_sleeps(monkeypatch, module)
    big = {**STATUS, "padding": "x" * (1 << 20)}
    listener = Listener(AgentSession(ScriptedChannel([hello(), *[big] * 10]), clock=lambda: 5.0))
    await listener.ended()
    assert len(slept) == 3 and slept[-1] == pytest.approx(2.0, rel=0.01)


def test_the_newest_of_a_slot_is_sent_and_a_pod_replaces_references_that_wait() -> None:
    outbox = Outbox()
    outbox.put(Slot.ACK, {"seq": 1})
    outbox.put(Slot.REFERENCES, {"old": 1})
    outbox.put(Slot.STOP, {"stop": 1})
    outbox.put(Slot.POD, {"pod": 1})
    outbox.put(Slot.POD, {"pod": 2})
    outbox.put(Slot.ACK, {"seq": 2})
    assert [outbox.take() for _ in range(4)] == [{"pod": 2}, {"stop": 1}, {"seq": 2}, None]
    outbox.put(Slot.REFERENCES, {"new": 1})
    assert outbox.take() == {"new": 1}


async def test_messages_are_written_by_one_writer_and_shared_bytes_as_they_are() -> None:
    channel = ScriptedChannel([hello()], stays=True)
    session = AgentSession(channel)
    session.put(Slot.POD, {"type": "pod"})
    session.put(Slot.REFERENCES, orjson.dumps({"type": "references"}))
    listener = Listener(session)
    await listener.read(1)
    await asyncio.sleep(0)
    assert [message["type"] for message in channel.sent] == ["pod", "references"]
    await listener.close()
    session.put(Slot.STOP, {"type": "stop"})
    assert len(channel.sent) == 2


async def test_an_agent_that_reads_nothing_holds_one_message_of_each_slot() -> None:
    class Stuck(ScriptedChannel):
        async def send(self, frame: bytes) -> None:
            await asyncio.Event().wait()

    session = AgentSession(Stuck([hello()], stays=True))
    listener = Listener(session)
    for number in range(1000):
        session.put(Slot.REFERENCES, {"number": number})
        await asyncio.sleep(0)
    assert session._outbox._waiting == {Slot.REFERENCES: {"number": 999}}
    await listener.close()
    assert listener.error is None


async def test_a_writer_that_fails_leaves_the_end_to_the_reader() -> None:
    class Broken(ScriptedChannel):
        async def send(self, frame: bytes) -> None:
            raise AgentUnreachableError("gone")

    session = AgentSession(Broken([hello(), STATUS]))
    session.put(Slot.POD, {"type": "pod"})
    listener = Listener(session)
    assert await listener.ended() is None
    assert len(listener.seen) == 2


@pytest.mark.parametrize("late", [False, True], ids=["before the greeting", "while it is open"])
async def test_a_message_that_cannot_be_made_or_written_ends_the_session_and_says_why(late: bool) -> None:
    class Broken(Lazy):
        async def make(self) -> bytes | None:
            await super().make()
            raise ValueError("no such table")

    for message in (Broken(None), {"type": "pod", "number": 1 << 70}):
        channel = ScriptedChannel([hello()], stays=True)
        session = AgentSession(channel)
        if not late:
            session.put(Slot.SERVICES_TABLE, message)
        listener = Listener(session)
        if late:
            await listener.read(1)
            session.put(Slot.SERVICES_TABLE, message)
        error = await listener.ended()
        assert isinstance(error, ValueError | TypeError) and channel.closed, "the link would believe that it lives"
        if isinstance(message, Broken):
            assert message.deeds == ["made", "written"] and str(error) == "no such table"


async def test_an_end_of_the_session_that_waits_for_its_channel_does_not_hide_what_failed() -> None:
    class Slow(ScriptedChannel):
        async def close(self) -> None:
            await super().close()
            await asyncio.sleep(0.01)

    session = AgentSession(Slow([hello()], stays=True))
    listener = Listener(session)
    await listener.read(1)
    session.put(Slot.POD, {"number": 1 << 70})
    assert isinstance(await listener.ended(), TypeError)


class Lazy:
    """A message that is made when it is taken."""

    def __init__(self, frame: bytes | None) -> None:
        self.frame = frame
        self.deeds: list[str] = []

    async def make(self) -> bytes | None:
        self.deeds.append("made")
        return self.frame

    def written(self) -> None:
        self.deeds.append("written")


async def test_a_lazy_message_is_made_when_the_writer_takes_it_and_hears_when_it_is_written() -> None:
    channel = ScriptedChannel([hello()], stays=True)
    session = AgentSession(channel)
    lazy, empty = Lazy(orjson.dumps({"type": "table"})), Lazy(None)
    session.put(Slot.SERVICES_TABLE, lazy)
    session.put(Slot.POLICY_TABLE, empty)
    assert lazy.deeds == []
    listener = Listener(session)
    await listener.read(1)
    await asyncio.sleep(0)
    assert [message["type"] for message in channel.sent] == ["table"]
    assert lazy.deeds == empty.deeds == ["made", "written"]
    await listener.close()


async def test_a_lazy_message_hears_of_a_session_that_broke() -> None:
    channel = ScriptedChannel([hello()], stays=True)
    session, lazy = AgentSession(channel), Lazy(b"{}")
    listener = Listener(session)
    await listener.read(1)
    channel.closed = True
    session.put(Slot.SERVICES_TABLE, lazy)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert lazy.deeds == ["made", "written"]
    await listener.close()


def test_features_are_those_of_the_greeting() -> None:
    session = AgentSession(ScriptedChannel([]))
    assert not session.has("tables")
    session.hello = {**hello(), "features": ["tables"]}
    assert session.has("tables") and not session.has("other")
