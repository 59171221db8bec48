"""Agents' events: acknowledged when the API server has them or they are given up on purpose, and not before."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from tests.unit.kube.test_recorder import Api, Time, running, turns
from vk_provider import eventreasons
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.jsontypes import Json
from vk_provider.kube.correlator import SPAM_BURST
from vk_provider.kube.recorder import EventRecorder
from vk_provider.pods.agent_events import IN_FLIGHT_LIMIT, MAX_OF_PROVIDER, NO_KUBELETS, AgentEventRelay, AgentEvents
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
        self.done[reason] = more["occurrence"].on_done

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
    recorder = EventRecorder(api, clock=clock, sleep=clock.sleep)
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
        assert await recorder.flush(30)
    assert rig.acks == [1, 2, 3]


async def test_what_the_filter_holds_back_is_acknowledged_too() -> None:
    rig, _, recorder = posting()
    rig.receive(*(message(seq) for seq in range(1, SPAM_BURST + 11)))
    assert rig.acks == [], "those before it still wait"
    async with running(recorder):
        assert await recorder.flush(30)
    assert rig.acks[-1] == SPAM_BURST + 10


async def test_what_a_process_that_died_had_not_posted_is_posted_by_the_next_and_nothing_twice() -> None:
    rig, api, recorder = posting()
    events = [message(seq) for seq in range(1, 5)]
    async with running(recorder):
        rig.receive(*events[:2])
        assert await recorder.flush(30)
        api.gate.clear()
        rig.receive(*events[2:])
        await turns()
    assert rig.acks == [1, 2]
    stored = {event["metadata"]["name"] for event in api.created}

    successor, next_api, next_recorder = posting()
    async with running(next_recorder):
        # The acknowledgement had not reached the agent: it repeats everything.
        successor.receive(*events)
        assert await next_recorder.flush(30)
    assert successor.acks == [1, 2, 3, 4]
    named = [event["metadata"]["name"] for event in next_api.created]
    assert set(named[:2]) == stored, "the API server answers 409 to these"
    assert len(set(named)) == 4


async def test_what_no_kubelet_says_is_of_another_source_with_a_share_of_its_own() -> None:
    rig, api, recorder = posting()
    async with running(recorder):
        rig.receive(message(1, reason="Pulled"), message(2, reason="ImageFetched"))
        assert await recorder.flush(30)
    said = {event["reason"]: event["source"]["component"] for event in api.created}
    assert said == {"Pulled": "kubelet", "ImageFetched": "vk-provider"}


async def test_an_agent_cannot_keep_back_what_the_provider_has_to_say() -> None:
    rig, api, recorder = posting()
    async with running(recorder):
        for seq in range(1, 3 * SPAM_BURST):
            event = message(seq, reason=sorted(NO_KUBELETS)[seq % len(NO_KUBELETS)])
            rig.receive({**event, "message": f"m{seq}"})
        recorder.record(POD, "Normal", eventreasons.INSTANCE_INTERRUPTED, "m", host="node-1", component="vk-provider")
        assert await recorder.flush(30)
    said = [event["reason"] for event in api.created if event["source"]["component"] == "vk-provider"]
    assert said.count("InstanceInterrupted") == 1 and len(said) == MAX_OF_PROVIDER + 1


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
        assert await recorder.flush(30)
    assert rig.acks[-1] == 20_000


async def told(outbox: Outbox) -> list[EventMessage]:
    return [cast(EventMessage, each) for each in await outbox.take() if each["type"] == "event"]


async def test_each_probe_that_fails_is_counted_until_the_filter_has_enough() -> None:
    """A readiness probe that fails every second for half a minute: Unhealthy x25, as of a kubelet."""
    rig, api, recorder = posting()
    outbox = Outbox()
    pod_events = Recorder(outbox, "u")
    outbox.start_session()
    async with running(recorder):
        for _ in range(30):
            pod_events.warn("Unhealthy", "Readiness probe failed: no", "spec.containers{main}")
            rig.receive(*await told(outbox))
            assert await recorder.flush(30)
    assert [event["count"] for event in api.created] == [1]
    assert [body["count"] for _, body in api.patched] == list(range(2, SPAM_BURST + 1))
    assert rig.acks[-1] == outbox.unacknowledged()[-1]["seq"]


async def test_a_pod_of_seven_containers_has_the_warnings_of_all() -> None:
    """21 Normal events of its start leave the Warnings alone; of those of its end a kubelet loses some, too."""
    rig, api, recorder = posting()
    outbox = Outbox()
    pod_events = Recorder(outbox, "u")
    outbox.start_session()
    places = [f"spec.containers{{c{number}}}" for number in range(7)]
    async with running(recorder):
        for place in places:
            for reason in ("Pulled", "Created", "Started"):
                pod_events.note(reason, "done", place)
        for number, place in enumerate(places):
            pod_events.warn("Unhealthy", f"Readiness probe failed: no {number}", place)
        for number, place in enumerate(places):
            pod_events.note("Killing", f"Stopping container c{number}", place)
        rig.receive(*await told(outbox))
        assert await recorder.flush(30)
    reasons = Counter(event["reason"] for event in api.created)
    assert reasons == {"Pulled": 7, "Created": 7, "Started": 7, "Unhealthy": 7, "Killing": SPAM_BURST - 21}


class Reached:
    """What an acknowledgement goes through: a pod's record and all that it has."""

    def __init__(self) -> None:
        self.acks: list[int] = []

    def acknowledge(self, seq: int) -> None:
        self.acks.append(seq)


async def test_events_that_wait_hold_nothing_of_a_pod_that_is_gone() -> None:
    """Thousands of them wait behind a burst."""
    recorder, reached = HeldRecorder(), Reached()
    events = AgentEvents(cast(Any, recorder), reached.acknowledge)
    events.relay.receive(POD, "node", message(1))
    events.relay.receive(POD, "node", message(2))
    recorder.finish(1)
    events.close()
    found = weakref.ref(reached)
    del events, reached
    gc.collect()
    assert found() is None
    recorder.finish(2)
