"""Spare connections to agents."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.kubelet.rig import make_instance
from vk_provider.errors import AgentUnreachableError
from vk_provider.kubelet import connection_pool
from vk_provider.kubelet.connection_pool import ConnectionPool


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed, self.aborted = False, asyncio.Event()
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True
        self.aborted.set()


class Connector:
    """Dials at once; `dialled` holds every connection that was made."""

    def __init__(self) -> None:
        self.dialled: list[Transport] = []
        self.made = asyncio.Event()
        self.error: Exception | None = None

    async def open_stream(self, instance: Any, factory: Any) -> Any:
        if self.error is not None:
            raise self.error
        transport, protocol = Transport(), factory()
        transport.protocol = protocol
        protocol.connection_made(transport)
        self.dialled.append(transport)
        self.made.set()
        return transport, protocol

    async def next_dial(self) -> None:
        self.made.clear()
        async with asyncio.timeout(30):
            await self.made.wait()
        await asyncio.sleep(0)


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch) -> Connector:
    monkeypatch.setattr(connection_pool, "DIAL_DELAY_S", 0)
    return Connector()


async def test_the_second_stream_takes_the_spare_connection(connector: Connector) -> None:
    connections = ConnectionPool(connector)
    first, _ = await connections.open(make_instance())
    assert first is connector.dialled[0]
    await connector.next_dial()
    second, side = await connections.open(make_instance())
    assert second is connector.dialled[1]
    assert connector.dialled[1].protocol is side and side.transport is second
    await connections.close()


async def test_a_spare_that_was_lost_is_not_used(connector: Connector) -> None:
    connections = ConnectionPool(connector)
    await connections.open(make_instance())
    await connector.next_dial()
    connector.dialled[1].protocol.connection_lost(None)
    transport, _ = await connections.open(make_instance())
    assert transport is connector.dialled[2]
    await connections.close()


async def test_closing_drops_spares(connector: Connector) -> None:
    connections = ConnectionPool(connector)
    first, _ = await connections.open(make_instance())
    await connector.next_dial()
    await connections.close()
    assert connector.dialled[1].closed and not connector.dialled[0].closed
    assert not first.is_closing()


async def test_a_spare_expires(connector: Connector) -> None:
    connections = ConnectionPool(connector, spare_s=0)
    await connections.open(make_instance())
    await connector.next_dial()
    async with asyncio.timeout(30):
        await connector.dialled[1].aborted.wait()
    await connections.close()


async def test_errors_of_the_dial_reach_the_caller_only_when_it_asked(connector: Connector) -> None:
    connections = ConnectionPool(connector)
    await connections.open(make_instance())
    connector.error = AgentUnreachableError("gone")
    await asyncio.sleep(0.01)
    with pytest.raises(AgentUnreachableError):
        await connections.open(make_instance())
    await connections.close()
