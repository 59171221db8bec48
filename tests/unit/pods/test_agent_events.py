"""Agents' events: acknowledged when the API server has them or they are given up on purpose, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.unit.kube.test_recorder import Api, Time, running, turns
from vk_provider.jsontypes import Json
from vk_provider.kube.correlator import SPAM_BURST
from vk_provider.kube.recorder import EventRecorder
from vk_provider.pods.agent_events import IN_FLIGHT_LIMIT, AgentEventRelay
from vk_provider.wire.session import EventMessage

POD = {"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u"}


def message(seq: int, reason: str = "") -> EventMessage:
    return EventMessage(
        type="event",
        seq=seq,
        podUID="u",
        eventType="Normal",
        reason=reason or f"R{seq}",
        message="m",
        fieldPath="",
        timestamp="2026-01-01T00:00:00Z",
    )


class HeldRecorder:
    """An EventRecorder whose events are done when the test says so."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.done: dict[str, Callable[[], None] | None] = {}

    def record(self, involved: Json, event_type: str, reason: str, text: str, path: str, **more: Any) -> None:
        self.reasons.append(reason)
        self.done[reason] = more["on_done"]

    def finish(self, *seqs: int) -> None:
        for seq in seqs:
            done = self.done.pop(f"R{seq}")
            assert done is not None
            done()


class Rig:
    """A relay between messages and a recorder; `acks` are the numbers that went back."""

    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder
        self.acks: list[int] = []
        self.relay = AgentEventRelay(recorder, self.acks.append)

    def receive(self, *messages: EventMessage) -> None:
        for each in messages:
            self.relay.receive(POD, "node-1", each)


def held() -> tuple[Rig, HeldRecorder]:
    recorder = HeldRecorder()
    return Rig(recorder), recorder


def posting() -> tuple[Rig, Api, EventRecorder]:
    api, clock = Api(), Time()
    recorder = EventRecorder(api, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]
    return Rig(recorder), api, recorder


def test_what_is_acknowledged_is_done_without_a_gap() -> None:
    rig, recorder = held()
    rig.receive(message(5), message(6), message(9))
    assert rig.acks == []
    recorder.finish(6)
    assert rig.acks == []
    recorder.finish(5)
    assert rig.acks == [8], "everything before the first that is open"
    recorder.finish(9)
    assert rig.acks == [8, 9]


def test_repeated_events_are_recorded_once_and_acknowledged_again_when_they_are_done() -> None:
    rig, recorder = held()
    rig.receive(message(5), message(6))
    rig.receive(message(5), message(6))
    assert (recorder.reasons, rig.acks) == (["R5", "R6"], [])
    recorder.finish(5)
    rig.receive(message(5), message(6))
    assert (recorder.reasons, rig.acks) == (["R5", "R6"], [5, 5])


def test_a_relay_that_is_closed_acknowledges_nothing() -> None:
    rig, recorder = held()
    rig.receive(message(5))
    rig.relay.close()
    recorder.finish(5)
    assert rig.acks == []


def test_only_so_many_events_are_followed_and_the_others_are_recorded_all_the_same() -> None:
    rig, recorder = held()
    seqs = range(1, 3 * IN_FLIGHT_LIMIT + 1)
    rig.receive(*(message(seq) for seq in seqs))
    assert len(recorder.reasons) == len(seqs)
    followed = [seq for seq in seqs if recorder.done[f"R{seq}"] is not None]
    assert followed == list(range(1, IN_FLIGHT_LIMIT + 1))
    recorder.finish(*followed)
    assert rig.acks == [*range(1, IN_FLIGHT_LIMIT), seqs[-1]]


async def test_nothing_is_acknowledged_while_the_api_server_does_not_answer() -> None:
    rig, api, recorder = posting()
    api.gate.clear()
    async with running(recorder):
        rig.receive(*(message(seq) for seq in range(1, 4)))
        await turns()
        assert (api.asked, rig.acks) == (1, [])
        api.gate.set()
        assert await recorder.flush(1)
    assert rig.acks == [1, 2, 3]


async def test_what_the_filter_holds_back_is_acknowledged_too() -> None:
    rig, _, recorder = posting()
    rig.receive(*(message(seq) for seq in range(1, SPAM_BURST + 11)))
    assert rig.acks == [], "those before it still wait"
    async with running(recorder):
        assert await recorder.flush(1)
    assert rig.acks[-1] == SPAM_BURST + 10


async def test_what_a_process_that_died_had_not_posted_is_posted_by_the_next_and_nothing_twice() -> None:
    rig, api, recorder = posting()
    events = [message(seq) for seq in range(1, 5)]
    async with running(recorder):
        rig.receive(*events[:2])
        assert await recorder.flush(1)
        api.gate.clear()
        rig.receive(*events[2:])
        await turns()
    assert rig.acks == [1, 2]
    stored = {event["metadata"]["name"] for event in api.created}

    successor, next_api, next_recorder = posting()
    async with running(next_recorder):
        # The acknowledgement had not reached the agent: it repeats everything.
        successor.receive(*events)
        assert await next_recorder.flush(1)
    assert successor.acks == [1, 2, 3, 4]
    named = [event["metadata"]["name"] for event in next_api.created]
    assert set(named[:2]) == stored, "the API server answers 409 to these"
    assert len(set(named)) == 4


async def test_a_flood_on_one_relay_keeps_bounded_memory() -> None:
    rig, api, recorder = posting()
    api.gate.clear()
    async with running(recorder):
        for seq in range(1, 20_001):
            rig.receive(message(seq, reason=f"R{seq % 50}"))
            if not seq % 1000:
                await asyncio.sleep(0)
        assert len(recorder) <= 2 * SPAM_BURST
        assert len(rig.relay._open) <= IN_FLIGHT_LIMIT
        api.gate.set()
        assert await recorder.flush(1)
    assert rig.acks[-1] == 20_000
