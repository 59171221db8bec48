"""Dialing an agent, and what a broken session does and does not mean."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from typing import Any

import pytest

from tests.listener import ScriptedChannel, hello
from vk_provider.agentclient.session import (
    BYTE_BURST,
    BYTE_RATE,
    MESSAGE_BURST,
    MESSAGE_RATE,
    AgentSession,
    Allowance,
    Slot,
)
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentUnreachableError, CloudError
from vk_provider.instances import links
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.links import InstanceLinks

INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "10.0.0.1", "10.0.0.2", 0.0)


class Listener:
    """Remembers what it is told. `receive`: what happens with a message."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.violations: list[str] = []
        self.receive = self.received.append

    def on_connected(self, owned: OwnedInstance) -> None: ...

    def on_message(self, owned: OwnedInstance, message: Any) -> None:
        self.receive(message)

    def on_disconnected(self, owned: OwnedInstance) -> None: ...

    def on_begun_anew(self, owned: OwnedInstance) -> None: ...

    def on_violation(self, owned: OwnedInstance, message: str) -> None:
        self.violations.append(message)

    def on_fate(self, owned: OwnedInstance) -> None: ...


class Connector:
    """Refuses `refusals` times, then gives one session, then refuses for ever."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.channel: ScriptedChannel | None = None

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        if self.refusals or self.channel is not None:
            self.refusals -= 1
            raise AgentUnreachableError("not yet")
        self.channel = ScriptedChannel([hello()])
        return AgentSession(self.channel)

    def renewal_delay_s(self, instance: Instance) -> float:
        return 3600.0


def make(connector: Any, fates: list[Instance | None | Exception], boot_timeout_s: float = 60.0):
    owned, listener = OwnedInstance(INSTANCE), Listener()

    async def look(instance_id: str) -> Instance | None:
        fate = fates.pop(0) if len(fates) > 1 else fates[0]
        if isinstance(fate, Exception):
            raise fate
        return fate

    return InstanceLinks(connector, look, listener, boot_timeout_s), owned, listener


async def test_it_dials_until_the_agent_answers_and_passes_messages_on() -> None:
    gone = dataclasses.replace(INSTANCE, state=InstanceState.TERMINATED, state_reason="killed")
    connector = Connector(refusals=2)
    made, owned, listener = make(connector, [gone])
    await asyncio.wait_for(made._run(owned), 5.0)
    assert listener.received == [hello()]
    assert owned.link.ever_connected and owned.link.session is None
    assert connector.channel is not None and connector.channel.closed
    assert owned.lost == "instance i-1 is terminated: killed"


async def test_a_broken_session_alone_loses_nothing_and_an_unreachable_cloud_neither(monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.0)
    made, owned, _ = make(Connector(refusals=0), [INSTANCE, CloudError("throttled")])
    task = asyncio.create_task(made._run(owned))
    await asyncio.sleep(0.15)
    assert not task.done()
    assert owned.lost == ""
    task.cancel()


async def test_an_instance_that_the_cloud_forgot_is_lost(monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.0)
    made, owned, listener = make(Connector(refusals=1000), [None])
    owned.fresh = False
    await asyncio.wait_for(made._run(owned), 5.0)
    assert "does not know instance i-1" in owned.lost


async def test_an_agent_that_never_answers_is_a_failed_boot() -> None:
    made, owned, listener = make(Connector(refusals=1000), [INSTANCE], boot_timeout_s=0.05)
    await asyncio.wait_for(made._run(owned), 5.0)
    assert owned.boot_failed and not owned.lost


async def test_an_instance_that_ends_before_its_agent_ever_answered_is_a_failed_boot(monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.0)
    gone = dataclasses.replace(INSTANCE, state=InstanceState.TERMINATED, state_reason="out of disks")
    made, owned, listener = make(Connector(refusals=1000), [gone])
    await asyncio.wait_for(made._run(owned), 5.0)
    assert owned.boot_failed == "instance i-1 is terminated: out of disks"
    assert not owned.lost


async def test_an_adopted_instance_with_a_started_pod_is_dialed_for_ever_while_the_cloud_says_it_lives() -> None:
    made, owned, listener = make(Connector(refusals=1000), [INSTANCE], boot_timeout_s=0.01)
    owned.fresh = False
    task = asyncio.create_task(made._run(owned))
    await asyncio.wait({task}, timeout=0.1)
    assert not task.done()
    assert not owned.boot_failed and not owned.lost
    task.cancel()


async def test_an_instance_without_an_address_is_asked_about_ever_more_slowly() -> None:
    asked: list[str] = []
    nowhere = dataclasses.replace(INSTANCE, primary_ip="")
    made, owned, listener = make(Connector(refusals=0), [nowhere])
    owned.described = nowhere

    async def look(instance_id: str) -> Instance:
        asked.append(instance_id)
        return nowhere

    made._look = look
    task = asyncio.create_task(made._run(owned))
    await asyncio.wait({task}, timeout=0.4)
    task.cancel()
    assert 2 <= len(asked) <= 9


async def test_an_agent_that_begins_to_listen_is_found_within_a_part_of_its_boot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays: list[float] = []
    enough = asyncio.Event()

    async def wait(self: links._FateQuestion, limit_s: float) -> None:
        delays.append(limit_s)
        if len(delays) == 30:
            enough.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(links._FateQuestion, "wait", wait)
    made, owned, listener = make(Connector(refusals=30), [INSTANCE])
    task = asyncio.create_task(made._run(owned))
    await enough.wait()
    task.cancel()
    for number, delay_s in enumerate(delays[:30]):
        assert delay_s <= min(1.1 * links.DIAL_MAX_S, 0.015 + 0.25 * sum(delays[:number]))


async def test_sessions_that_break_at_once_are_not_dialed_without_a_pause() -> None:
    class Flapping(Connector):
        opened = 0

        async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
            self.opened += 1
            return AgentSession(ScriptedChannel([]))

    connector = Flapping(refusals=0)
    made, owned, listener = make(connector, [INSTANCE])
    task = asyncio.create_task(made._run(owned))
    await asyncio.wait({task}, timeout=0.4)
    task.cancel()
    assert 2 <= connector.opened <= 9


class Violator(Connector):
    """Greets, and then says `frames`, in each session."""

    def __init__(self, *frames: bytes) -> None:
        super().__init__(0)
        self.frames, self.opened_at = frames, list[float]()

    @property
    def opened(self) -> int:
        return len(self.opened_at)

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        self.opened_at.append(links.time.monotonic())
        return AgentSession(ScriptedChannel([hello(), *self.frames]))


async def test_an_agent_that_breaks_the_protocol_is_told_of_and_waited_for_ever_longer(monkeypatch: Any) -> None:
    connector = Violator(b'{"type":"event","count":"x"}')
    made, owned, listener = make(connector, [INSTANCE])
    slept: list[float] = []
    real_sleep = asyncio.sleep
    now = 1000.0

    async def sleep(delay_s: float) -> None:
        nonlocal now
        slept.append(delay_s)
        now += delay_s
        await real_sleep(0)

    monkeypatch.setattr(links.asyncio, "sleep", sleep)
    monkeypatch.setattr(links.time, "monotonic", lambda: now)
    task = asyncio.create_task(made._run(owned))
    while connector.opened < 9:
        await real_sleep(0)
    task.cancel()
    await asyncio.wait({task})
    waits = [after - before for before, after in itertools.pairwise(connector.opened_at)]
    assert 0.8 <= waits[0] < 3 and 50 < waits[-1] < 75 and sorted(waits[:5]) == waits[:5]
    assert listener.received[0] == hello() and "broke the protocol" in listener.violations[0]
    # The back-off is the link's: another task goes on with it.
    due = owned.link.redial_at = now + 60.0
    again = asyncio.create_task(made._run(owned))
    while connector.opened < 10:
        await real_sleep(0)
    again.cancel()
    assert connector.opened_at[-1] >= due


class Clock:
    """Virtual time of links and sessions: who sleeps moves it."""

    def __init__(self, monkeypatch: Any) -> None:
        self.now = 1000.0
        self._real_sleep = asyncio.sleep
        monkeypatch.setattr(links.asyncio, "sleep", self.sleep)
        monkeypatch.setattr(links.time, "monotonic", self)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += delay_s
        await self._real_sleep(0)


class Flooder(Connector):
    """Says so much in each session, and closes it."""

    def __init__(self, frames: list[bytes], clock: Clock) -> None:
        super().__init__(0)
        self.frames, self.clock, self.opened_at = frames, clock, list[float]()

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        self.opened_at.append(self.clock())
        return AgentSession(ScriptedChannel([hello(), *self.frames]), self.clock)


STATUS = b'{"type":"status","podUID":"","status":{"phase":"Running"},"finished":false,"x":"%b"}'
FLOODS = {"messages": [STATUS % b""] * 1_000, "bytes": [STATUS % (b"x" * (1 << 20))] * 8}


@pytest.mark.parametrize("flood", FLOODS)
async def test_an_agent_that_floods_closes_and_is_dialed_again_is_read_at_its_rate(
    monkeypatch: Any, flood: str
) -> None:
    clock = Clock(monkeypatch)
    frames = FLOODS[flood]
    connector = Flooder(frames, clock)
    made, owned, listener = make(connector, [INSTANCE])
    owned.link.allowance = Allowance(clock())

    task = asyncio.create_task(made._run(owned))
    while len(connector.opened_at) < 6:
        await clock._real_sleep(0)
    task.cancel()
    await asyncio.wait({task})
    passed_s = clock() - connector.opened_at[0]
    said = [message for message in listener.received if message["type"] == "status"]
    assert len(said) >= 5 * len(frames)
    assert len(said) <= MESSAGE_BURST + MESSAGE_RATE * passed_s
    assert len(said) * len(frames[0]) <= BYTE_BURST + BYTE_RATE * passed_s


async def test_a_fault_while_a_message_is_handled_ends_that_session_only(monkeypatch: Any) -> None:
    made, owned, listener = make(Violator(), [INSTANCE])

    def receive(message: Any) -> None:
        raise KeyError("podUID")

    listener.receive = receive
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 3600.0)
    task = asyncio.create_task(made._run(owned))
    async with asyncio.timeout(30):
        while not listener.violations:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    assert not task.done()
    assert len(listener.violations) == 1 and "hello message could not be handled" in listener.violations[0]
    task.cancel()


async def test_dialing_does_not_wait_for_the_cloud() -> None:
    """A listing may take its time; an agent that has restarted is there at once."""

    class Restarting(Connector):
        opened = 0

        async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
            self.opened += 1
            return AgentSession(ScriptedChannel([]))

    connector = Restarting(refusals=0)
    made, owned, _ = make(connector, [INSTANCE])
    asked: list[str] = []

    async def look(instance_id: str) -> Instance:
        asked.append(instance_id)
        await asyncio.sleep(60.0)
        return INSTANCE

    made._look = look
    task = asyncio.create_task(made._run(owned))
    await asyncio.wait({task}, timeout=0.4)
    assert connector.opened >= 2 and asked == ["i-1"]
    task.cancel()
    await asyncio.wait({task})
    assert [t for t in asyncio.all_tasks() if t.get_name().startswith("fate of")] == []


async def test_an_end_that_the_cloud_tells_counts_unless_the_agent_has_spoken_since() -> None:
    gone = dataclasses.replace(INSTANCE, state=InstanceState.TERMINATED)
    answers = asyncio.Queue[Instance]()
    made, owned, _ = make(Connector(refusals=0), [INSTANCE])

    async def look(instance_id: str) -> Instance:
        return await answers.get()

    question = links._FateQuestion(look)
    question.ask(owned)
    owned.link.sessions += 1
    answers.put_nowait(gone)
    await question.wait(5.0)
    assert question.answer(owned) == ""
    answers.put_nowait(gone)
    await question.wait(5.0)
    assert "i-1 is terminated" in question.answer(owned)
    await question.close()


async def test_a_session_that_cannot_be_written_to_is_no_longer_the_links_and_is_dialed_again_later() -> None:
    class Staying(Connector):
        async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
            self.channel = ScriptedChannel([hello()], stays=True)
            return AgentSession(self.channel)

    made, owned, listener = make(connector := Staying(refusals=0), [INSTANCE])
    made.open(owned)
    link = owned.link
    async with asyncio.timeout(5.0):
        while not listener.received:  # noqa: ASYNC110 - a listener of a test wakes nobody
            await asyncio.sleep(0)
        assert link.session is not None and link.task is not None
        link.session.put(Slot.POD, {"number": 1 << 70})
        await asyncio.wait({link.task})
    assert link.session is None and link.task is None and connector.channel is not None and connector.channel.closed
    assert link.redial_at > time.monotonic()


class Renewing(Connector):
    """Its certificates are due at once, twice; the first time there is `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(refusals=0)
        self.error = error
        self.renewed, self.delays_s = 0, [0.0, 0.0]
        self.done = asyncio.Event()

    def renewal_delay_s(self, instance: Instance) -> float:
        return self.delays_s.pop(0) if self.delays_s else 3600.0

    async def renew(self, instance: Instance) -> None:
        self.renewed += 1
        if self.renewed == 1:
            raise self.error
        self.done.set()


@pytest.mark.parametrize("error", [AgentUnreachableError("not now"), ValueError("a fault")], ids=repr)
async def test_a_certificate_is_renewed_when_it_is_due_and_again_when_that_failed(
    error: Exception, monkeypatch: Any
) -> None:
    monkeypatch.setattr(links, "RENEWAL_RETRY_S", 0.01)
    connector = Renewing(error)
    renewal = links._Renewal(connector, INSTANCE)
    await asyncio.wait_for(connector.done.wait(), 30)
    assert connector.renewed == 2
    renewal.close()


async def test_no_certificate_is_renewed_once_its_session_has_ended() -> None:
    connector = Renewing(AgentUnreachableError("not now"))
    links._Renewal(connector, INSTANCE).close()
    await asyncio.sleep(0.02)
    assert connector.renewed == 0
