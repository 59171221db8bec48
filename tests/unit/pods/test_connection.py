"""Dialing an agent, and what a broken session does and does not mean."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentUnreachableError, CloudError
from vk_provider.pods import connection
from vk_provider.pods.connection import InstanceConnection
from vk_provider.pods.record import PodRecord

INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "10.0.0.1", "10.0.0.2", 0.0)
POD = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": []}}


class Session:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages
        self.closed = False

    async def send(self, message: dict[str, Any]) -> None: ...

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[dict[str, Any]]:
        for message in self._messages:
            yield message

    async def close(self) -> None:
        self.closed = True


class Connector:
    """Refuses `refusals` times, then gives one session, then refuses for ever."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.session: Session | None = None

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> Session:
        if self.refusals or self.session is not None:
            self.refusals -= 1
            raise AgentUnreachableError("not yet")
        self.session = Session([{"type": "status"}])
        return self.session

    def renewal_delay_s(self, instance: Instance) -> float:
        return 3600.0


def make(connector: Connector, fates: list[Instance | None | Exception], boot_timeout_s: float = 60.0):  # type: ignore[no-untyped-def]
    record = PodRecord("u", "n", POD, instance=INSTANCE, fresh=True)
    received: list[dict[str, Any]] = []

    async def describe(instance_id: str) -> Instance | None:
        fate = fates.pop(0) if len(fates) > 1 else fates[0]
        if isinstance(fate, Exception):
            raise fate
        return fate

    made = InstanceConnection(
        connector,
        describe,
        lambda uid: None,
        lambda record, message: received.append(message),
        boot_timeout_s,  # type: ignore[arg-type]
        lambda record: None,
        lambda record: None,
    )
    return made, record, received


async def test_it_dials_until_the_agent_answers_and_passes_messages_on() -> None:
    gone = dataclasses.replace(INSTANCE, state=InstanceState.TERMINATED, state_reason="killed")
    connector = Connector(refusals=2)
    made, record, received = make(connector, [gone])
    await asyncio.wait_for(made.run(record), 5.0)
    assert received == [{"type": "status"}]
    assert record.ever_connected and record.session is None
    assert connector.session is not None and connector.session.closed
    assert record.lost == "instance i-1 is terminated: killed"


async def test_a_broken_session_alone_loses_nothing_and_an_unreachable_cloud_neither(monkeypatch: Any) -> None:
    monkeypatch.setattr(connection, "FATE_INTERVAL_S", 0.0)
    made, record, _ = make(Connector(refusals=0), [INSTANCE, CloudError("throttled")])
    task = asyncio.create_task(made.run(record))
    await asyncio.sleep(0.15)
    assert not task.done()
    assert record.lost == ""
    task.cancel()


async def test_an_instance_that_the_cloud_forgot_is_lost(monkeypatch: Any) -> None:
    monkeypatch.setattr(connection, "FATE_INTERVAL_S", 0.0)
    made, record, _ = make(Connector(refusals=1000), [None])
    record.fresh = False
    await asyncio.wait_for(made.run(record), 5.0)
    assert "does not know instance i-1" in record.lost


async def test_an_agent_that_never_answers_is_a_failed_boot() -> None:
    made, record, _ = make(Connector(refusals=1000), [INSTANCE], boot_timeout_s=0.05)
    await asyncio.wait_for(made.run(record), 5.0)
    assert record.boot_failed and not record.lost


async def test_an_instance_that_ends_before_its_agent_ever_answered_is_a_failed_boot(monkeypatch: Any) -> None:
    monkeypatch.setattr(connection, "FATE_INTERVAL_S", 0.0)
    gone = dataclasses.replace(INSTANCE, state=InstanceState.TERMINATED, state_reason="out of disks")
    made, record, _ = make(Connector(refusals=1000), [gone])
    await asyncio.wait_for(made.run(record), 5.0)
    assert record.boot_failed == "instance i-1 is terminated: out of disks"
    assert not record.lost


async def test_an_adopted_instance_with_a_started_pod_is_dialed_for_ever_while_the_cloud_says_it_lives() -> None:
    made, record, _ = make(Connector(refusals=1000), [INSTANCE], boot_timeout_s=0.01)
    record.fresh = False
    task = asyncio.create_task(made.run(record))
    await asyncio.wait({task}, timeout=0.1)
    assert not task.done()
    assert not record.boot_failed and not record.lost
    task.cancel()


async def test_an_instance_without_an_address_is_asked_about_ever_more_slowly() -> None:
    asked: list[str] = []
    nowhere = dataclasses.replace(INSTANCE, primary_ip="")
    made, record, _ = make(Connector(refusals=0), [nowhere])
    record.instance = nowhere

    async def describe(instance_id: str) -> Instance:
        asked.append(instance_id)
        return nowhere

    made._describe = describe
    task = asyncio.create_task(made.run(record))
    await asyncio.wait({task}, timeout=0.4)
    task.cancel()
    assert 2 <= len(asked) <= 9


async def test_sessions_that_break_at_once_are_not_dialed_without_a_pause() -> None:
    class Flapping(Connector):
        opened = 0

        async def open_session(self, instance: Instance, *, fresh: bool = True) -> Session:
            self.opened += 1
            return Session([])

    connector = Flapping(refusals=0)
    made, record, _ = make(connector, [INSTANCE])
    task = asyncio.create_task(made.run(record))
    await asyncio.wait({task}, timeout=0.4)
    task.cancel()
    assert 2 <= connector.opened <= 9
