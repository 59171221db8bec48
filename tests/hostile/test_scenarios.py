"""What a hostile agent can do on its session, while the honest pod of the same Node is served as if it were alone."""

from __future__ import annotations

import asyncio
import threading
import time

import orjson
import pytest

from tests.hostile.agents import HostileAgent, Script, Session, Talk, wait_for_end
from tests.hostile.world import LIMIT_S, World, until
from tests.listener import hello
from vk_provider.agentclient.session import MESSAGE_RATE
from vk_provider.wire.session import MAX_UP_BYTES

ATTACK_S = 1.5
FLOOD, FLOOD_S = 500, 6.0
"""Messages in each session, and for how long sessions are counted: without a limit over sessions, one a second."""
SHOWN_LINES = 2 * 256
"""In /metrics/cadvisor, of a pod with one container and its sandbox."""
SHOWN_BYTES = SHOWN_LINES * 2_500
"""Labels of 256 quotes take twice as much."""
SCRAPE_BOUND = 30 << 20
"""How much memory scrapes of such a pod may take."""
SESSIONS_A_SECOND = 10
"""Of one agent that ends each session at once."""


def _event(agent: HostileAgent, number: int) -> bytes:
    return orjson.dumps(
        {
            "type": "event",
            "seq": number,
            "podUID": agent.uid,
            "eventType": "Normal",
            "reason": f"Reason{number}",
            "message": "m",
            "fieldPath": "",
            "timestamp": "2026-11-28T10:00:00Z",
        }
    )


async def flood_events(agent: HostileAgent, session: Session) -> None:
    for number in range(1, 10**9):
        await session.say(_event(agent, number))


async def flood_statuses(agent: HostileAgent, session: Session) -> None:
    for number in range(10**9):
        await session.say(agent.status(message=f"message {number}"))


async def flood_pings(agent: HostileAgent, session: Session) -> None:
    while True:
        await session.websocket.ping(b"x" * 125)
        await asyncio.sleep(0)


async def flood_pongs(agent: HostileAgent, session: Session) -> None:
    while True:
        await session.websocket.pong(b"x" * 125)
        await asyncio.sleep(0)


async def _write_on(session: Session, data: bytes) -> None:
    """Again and again, as fast as it is read."""
    while not session.closed.is_set():
        session.write(data)
        await session.drain()


async def flood_empty_fragments(agent: HostileAgent, session: Session) -> None:
    session.write(b"\x02\x00")
    await _write_on(session, b"\x00\x00" * 1_000)


async def flood_small_fragments(agent: HostileAgent, session: Session) -> None:
    session.write(b"\x02\x01x")
    await _write_on(session, b"\x00\x01x" * 1_000)


async def flood_empty_messages(agent: HostileAgent, session: Session) -> None:
    await _write_on(session, b"\x82\x00" * 1_000)


async def flood_largest_messages(agent: HostileAgent, session: Session) -> None:
    message = {**agent.status(), "unknown": ""}
    room = MAX_UP_BYTES - len(orjson.dumps(message)) - 1
    data = orjson.dumps({**message, "unknown": "x" * room})
    while True:
        await session.drain()
        await session.say(data)


async def nest_deeply(agent: HostileAgent, session: Session) -> None:
    half = (MAX_UP_BYTES - 100) // 2
    await session.say(b'{"type":"status","x":' + b"[" * half + b"]" * half + b"}")
    await session.closed.wait()


async def write_more_than_allowed(agent: HostileAgent, session: Session) -> None:
    await session.say(b" " * (MAX_UP_BYTES + 1))
    await session.closed.wait()


async def announce_exabytes(agent: HostileAgent, session: Session) -> None:
    session.write(b"\x82\x7f" + (2**62).to_bytes(8, "big"))
    await _write_on(session, b"x" * 65_536)


async def fall_silent_in_a_frame(agent: HostileAgent, session: Session) -> None:
    session.write(b"\x82\x7e\x10\x00" + b"x" * 10)
    await asyncio.sleep(60)


async def fall_silent_in_a_header(agent: HostileAgent, session: Session) -> None:
    session.write(b"\x82\x7f\x00")
    await asyncio.sleep(60)


async def compress(agent: HostileAgent, session: Session) -> None:
    """A frame with the bit of a compression that was not agreed."""
    session.write(b"\xc2\x05" + b"xxxxx")
    await session.closed.wait()


async def end_and_then_list(agent: HostileAgent, session: Session) -> None:
    await session.say(agent.status(phase="Succeeded"))
    await session.say({"type": "status", "podUID": agent.uid, "status": [], "finished": False})
    await session.closed.wait()


ATTACKS: list[Talk] = [
    flood_events,
    flood_statuses,
    flood_pings,
    flood_pongs,
    flood_empty_fragments,
    flood_small_fragments,
    flood_empty_messages,
    flood_largest_messages,
    nest_deeply,
    write_more_than_allowed,
    announce_exabytes,
    fall_silent_in_a_frame,
    fall_silent_in_a_header,
    compress,
    end_and_then_list,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_on_a_session_hurts_that_pod_only(world: World, attack: Talk) -> None:
    names = [world.call(world.create_hostile(Script(attack))) for _ in range(2)]
    agents = [world.call(world.wait_agent(name)) for name in names]
    with world.watched():
        time.sleep(ATTACK_S)
    assert [failure for agent in agents for failure in agent.failures] == []


def _largest_sample(agent: HostileAgent) -> bytes:
    """What makes the most of every route that shows samples out of one message."""
    lie = {"id": '"' * 4096, "image": '"' * 4096, "name": '"' * 256}
    series = [["container_threads", {"device": f"{number}"}, 0] for number in range(512)]
    sample = agent.story.stats("2026-11-28T10:00:00Z")
    sample["cadvisor"] = [{"container": name, **lie, "samples": series} for name in ("c", "", *["c"] * 50)]
    return orjson.dumps(sample)


def test_the_largest_sample_costs_no_more_than_its_containers_may_show(world: World) -> None:
    async def say_it(agent: HostileAgent, session: Session) -> None:
        data = _largest_sample(agent)
        assert len(data) < MAX_UP_BYTES
        await session.say(data)
        assert await session.is_read()
        said.set()
        await wait_for_end(agent, session)

    said = threading.Event()
    name = world.call(world.create_hostile(Script(say_it)))
    world.call(world.wait_agent(name))
    assert said.wait(LIMIT_S)
    with world.watched() as watch:
        for _ in range(3):
            text = world.call(world.kubelet.get("/metrics/cadvisor"))
            lines = [line for line in text.splitlines() if f'pod="{name}"'.encode() in line]
            assert 0 < len(lines) <= SHOWN_LINES and sum(map(len, lines)) <= SHOWN_BYTES
    assert watch.growth < SCRAPE_BOUND, f"the provider's memory grew by {watch.growth >> 20} MiB"


async def _close_at_once(agent: HostileAgent, session: Session) -> None:
    await session.say(agent.status())


def test_an_agent_that_ends_each_session_at_once_is_not_dialed_without_pause(world: World) -> None:
    name = world.call(world.create_hostile(Script(_close_at_once)))
    agent = world.call(world.wait_agent(name))
    with world.watched():
        before = len(agent.sessions)
        time.sleep(ATTACK_S)
        opened = len(agent.sessions) - before
    assert opened <= ATTACK_S * SESSIONS_A_SECOND


async def _flood_and_close(agent: HostileAgent, session: Session) -> None:
    for _ in range(FLOOD):
        await session.say(agent.status())
    await session.is_read()


def test_an_agent_that_floods_and_closes_is_not_dialed_before_its_messages_are_made_up_for(world: World) -> None:
    began = time.monotonic()
    name = world.call(world.create_hostile(Script(_flood_and_close)))
    agent = world.call(world.wait_agent(name))
    with world.watched():
        time.sleep(FLOOD_S)
        opened, passed_s = len(agent.sessions), time.monotonic() - began
    assert opened <= 1 + passed_s / (FLOOD / MESSAGE_RATE)


def test_an_agent_that_does_not_greet_is_given_no_pod(world: World) -> None:
    name = world.call(world.create_hostile(Script(greeting=None, ready=False)))
    agent = world.call(world.wait_agent(name, given=False))
    with world.watched():
        world.call(until("a session", lambda: _has_sessions(agent)))
    assert agent.story.status is None or world.call(world.namespace.pod(name)) is not None


async def _has_sessions(agent: HostileAgent, count: int = 1) -> bool:
    return len(agent.sessions) >= count


def test_nobody_speaks_for_the_honest_pod(world: World) -> None:
    """Statuses, events and stats with its UID, its address and its name change nothing of it."""

    async def speak(agent: HostileAgent, session: Session) -> None:
        honest = world.honest
        for uid in (honest.uid, agent.uid):
            lie = agent.status(phase="Failed" if uid == honest.uid else "Running", podIP=honest.address)
            await session.say({**lie, "podUID": uid, "finished": uid == honest.uid})
            sample = agent.story.stats("2026-11-28T10:00:00Z")
            sample["pod"]["podRef"] = {"name": honest.name, "namespace": world.namespace.name, "uid": honest.uid}
            await session.say({**sample, "podUID": uid})
            await session.say({**orjson.loads(_event(agent, 1)), "podUID": uid, "reason": "Lie"})
        await wait_for_end(agent, session)

    name = world.call(world.create_hostile(Script(speak)))
    agent = world.call(world.wait_agent(name))
    with world.watched():
        world.call(until("the hostile pod runs", lambda: _is_running(world, name)))
    pod = world.call(world.namespace.pod(name))
    assert pod is not None and pod["status"]["podIP"] == agent.instance.pod_ip


async def _is_running(world: World, name: str) -> bool:
    pod = await world.namespace.pod(name)
    return pod is not None and pod["status"]["phase"] == "Running"


def test_an_agent_that_greets_with_another_pod_loses_its_own_only(world: World) -> None:
    script = Script(greeting=lambda agent: hello(agent.instance.instance_id, world.honest.uid), ready=False)
    name = world.call(world.create_hostile(script))
    with world.watched():
        world.call(until("the pod has failed", lambda: _has_failed(world, name)))


async def _has_failed(world: World, name: str) -> bool:
    pod = await world.namespace.pod(name)
    return pod is not None and pod["status"]["phase"] == "Failed"


def test_a_pod_that_ended_is_over_whatever_its_agent_says_then(world: World) -> None:
    async def end(agent: HostileAgent, session: Session) -> None:
        if len(agent.sessions) == 1:
            await session.say(agent.status(phase="Succeeded"))
        await session.say({"type": "status", "podUID": agent.uid, "status": [], "finished": False})
        await session.closed.wait()

    name = world.call(world.create_hostile(Script(end)))
    agent = world.call(world.wait_agent(name))
    with world.watched():
        world.call(until("it is dialed again", lambda: _has_sessions(agent, 2)))
    pod = world.call(world.namespace.pod(name))
    assert pod is not None and pod["status"]["phase"] == "Succeeded"
