"""The session over real TLS and WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from tests.unit.agent.loopback import INSTANCE_ID, STARTED_AT, LoopbackAgent
from tests.wire_check import assert_fits
from vk_provider.agent import session as session_module
from vk_provider.wire.session import FEATURES


async def receive(websocket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    async with asyncio.timeout(30):
        frame = await websocket.receive()
    assert frame.type == aiohttp.WSMsgType.BINARY, frame
    return orjson.loads(frame.data)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a test may look at anything
            await asyncio.sleep(0)


@pytest.fixture
def certified(agent: LoopbackAgent) -> LoopbackAgent:
    agent.certify()
    return agent


async def test_hello_comes_first_then_the_newest_state(certified: LoopbackAgent):
    certified.pod_uid = "u"
    certified.outbox.send_status("u", {"phase": "Running"}, True)
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        assert await receive(session) == {
            "type": "hello",
            "version": 1,
            "features": list(FEATURES),
            "instanceID": INSTANCE_ID,
            "podUID": "u",
            "agentStartedAt": STARTED_AT,
        }
        assert await receive(session) == {
            "type": "status",
            "podUID": "u",
            "status": {"phase": "Running"},
            "finished": True,
        }
        await session.close()


async def test_an_agent_that_applies_tables_says_so_and_names_what_is_in_force(certified: LoopbackAgent):
    certified.session._memory_bytes = 8 << 30
    certified.session._tables = lambda: {"services": "::1", "policy": ""}
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        greeting = await receive(session)
        assert_fits(greeting)
        assert greeting["features"] == [*FEATURES, "tables", "packed-tables"]
        assert greeting["tables"] == {"services": "::1", "policy": ""}
        assert greeting["memoryBytes"] == 8 << 30
        await session.close()


async def test_messages_reach_the_worker_and_acknowledgements_the_outbox(certified: LoopbackAgent):
    certified.outbox.send_event("u", "Normal", "Pulled", "pulled")
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        await receive(session)
        event = await receive(session)
        await session.send_bytes(orjson.dumps({"type": "ack", "seq": event["seq"]}))
        await session.send_str('{"type": "references", "references": {}}')
        await eventually(lambda: certified.received)
        assert certified.received == [{"type": "references", "references": {}}]
        assert certified.outbox.unacknowledged() == []
        await session.close()


async def test_a_newer_session_replaces_the_older_one(certified: LoopbackAgent):
    async with certified.client(verify=True) as client:
        sessions = [await client.open_session() for _ in range(3)]
        for session in sessions:
            assert (await receive(session))["type"] == "hello"
        for session in sessions[:2]:
            async with asyncio.timeout(30):
                assert (await session.receive()).type == aiohttp.WSMsgType.CLOSE
        certified.outbox.send_status("u", {"phase": "Running"}, False)
        assert (await receive(sessions[2]))["type"] == "status"
        await sessions[2].close()
        await eventually(lambda: not certified.session.is_open)


async def test_what_happened_while_nobody_listened_is_told_to_the_next_session(certified: LoopbackAgent):
    async with certified.client(verify=True) as client:
        first = await client.open_session()
        await receive(first)
        await first.close()
        await eventually(lambda: not certified.session.is_open)
        certified.outbox.send_status("u", {"phase": "Pending"}, False)
        certified.outbox.send_status("u", {"phase": "Failed"}, False)
        certified.outbox.send_event("u", "Warning", "Failed", "no such image")
        second = await client.open_session()
        assert [(await receive(second))["type"] for _ in range(3)] == ["hello", "status", "event"]
        await second.close()


async def test_what_is_not_a_message_ends_the_session(certified: LoopbackAgent):
    async with certified.client(verify=True) as client:
        for text in ("{", "[]", '{"kind": 1}'):
            session = await client.open_session()
            await receive(session)
            await session.send_str(text)
            async with asyncio.timeout(30):
                closed = await session.receive()
            assert closed.data == aiohttp.WSCloseCode.UNSUPPORTED_DATA


async def test_a_large_pod_message_passes(certified: LoopbackAgent):
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        await receive(session)
        data = "x" * (8 << 20)
        await session.send_bytes(orjson.dumps({"type": "references", "references": {"secrets": {"s": data}}}))
        await eventually(lambda: certified.received)
        assert len(certified.received[0]["references"]["secrets"]["s"]) == len(data)
        await session.close()


async def test_a_stopping_agent_says_so(certified: LoopbackAgent):
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        await receive(session)
        stopping = asyncio.create_task(certified.stop())
        async with asyncio.timeout(30):
            closed = await session.receive()
        assert closed.data == aiohttp.WSCloseCode.GOING_AWAY
        await stopping


async def test_a_message_that_is_too_long_for_the_contract_is_cut_or_not_sent(
    certified: LoopbackAgent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session_module, "MAX_UP_BYTES", 1000)
    certified.outbox.send_status("u", {"phase": "Running", "message": "x" * 1000}, False)
    stats = {"type": "stats", "podUID": "u", "timestamp": STARTED_AT, "pod": {}, "node": {}}
    certified.outbox.send_stats({**stats, "cadvisor": [{"container": "x" * 1000}]})
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        assert (await receive(session))["type"] == "hello"
        assert await receive(session) == stats
        await session.close()


async def test_a_greeting_that_cannot_be_made_ends_the_session(certified: LoopbackAgent):
    def fail() -> str:
        raise ValueError("no pod")

    certified.session._pod_uid = fail
    async with certified.client(verify=True) as client:
        session = await client.open_session()
        async with asyncio.timeout(30):
            closed = await session.receive()
        assert closed.data == aiohttp.WSCloseCode.INTERNAL_ERROR, "the provider would wait for the greeting"
    await eventually(lambda: not certified.session.is_open)
