"""Keeps one spare connection to an agent after a stream was opened, so that the next one needs no TLS handshake.

A handshake with certificates on both sides costs several milliseconds, a fifth of an exec of `true`, and an exec is
often followed by another. Only instances that were used in the last SPARE_S have a spare, at most one.
"""

from __future__ import annotations

import asyncio

from vk_provider.agentclient.base import AgentConnector
from vk_provider.aiokit.pump import Side
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentError

SPARE_S = 30.0
DIAL_DELAY_S = 0.05
"""Delay of the next dial, so that the stream that was just opened comes first."""
MAX_SPARES = 256


class _Spare(asyncio.Protocol):
    """Holds an idle connection; `lost` once it cannot be used."""

    def __init__(self) -> None:
        self.lost = False

    def data_received(self, data: bytes) -> None:
        # An agent that sends first is about to close: the connection must not be used.
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class ConnectionPool:
    """Opens streams to agents, from a spare connection where there is one. Keyed by instance ID."""

    def __init__(self, connector: AgentConnector, spare_s: float = SPARE_S) -> None:
        self._connector, self._spare_s = connector, spare_s
        self._spares: dict[str, tuple[asyncio.Transport, _Spare, asyncio.TimerHandle]] = {}
        self._dials: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    async def open(self, instance: Instance) -> tuple[asyncio.Transport, Side]:
        """A connection that was not used before. Raises AgentError."""
        side = Side()
        transport = self._take(instance.instance_id)
        if transport is not None:
            side.attach(transport)
        else:
            transport, side = await self._connector.open_stream(instance, Side)
        self._prepare_next(instance)
        return transport, side

    def _take(self, instance_id: str) -> asyncio.Transport | None:
        found = self._spares.pop(instance_id, None)
        if found is None:
            return None
        transport, spare, expiry = found
        expiry.cancel()
        if spare.lost or transport.is_closing():
            transport.abort()
            return None
        return transport

    def _prepare_next(self, instance: Instance) -> None:
        busy = instance.instance_id in self._dials or len(self._spares) + len(self._dials) >= MAX_SPARES
        if not busy and not self._closed:
            task = asyncio.create_task(self._dial(instance), name=f"spare connection to {instance.instance_id}")
            self._dials[instance.instance_id] = task
            task.add_done_callback(lambda _: self._dials.pop(instance.instance_id, None))

    async def _dial(self, instance: Instance) -> None:
        await asyncio.sleep(DIAL_DELAY_S)
        try:
            transport, spare = await self._connector.open_stream(instance, _Spare)
        except (AgentError, OSError):
            return
        self._drop(instance.instance_id)
        expiry = asyncio.get_running_loop().call_later(self._spare_s, self._drop, instance.instance_id)
        self._spares[instance.instance_id] = (transport, spare, expiry)

    def _drop(self, instance_id: str) -> None:
        found = self._spares.pop(instance_id, None)
        if found is not None:
            found[2].cancel()
            found[0].abort()

    async def close(self) -> None:
        """Drop all spares."""
        self._closed = True
        for task in list(self._dials.values()):
            task.cancel()
        await asyncio.gather(*self._dials.values(), return_exceptions=True)
        for instance_id in list(self._spares):
            self._drop(instance_id)
