"""A site of aiohttp without TLS whose clients cannot exhaust the process: see connection_limits and headguard."""

from __future__ import annotations

import asyncio

from aiohttp import web

from vk_provider.aiokit.connection_limits import ConnectionLimits, PendingConnections
from vk_provider.aiokit.headguard import GuardedHandler


class PlainSite(web.BaseSite):
    """Nobody authenticates here, so that all connections of all addresses count: the oldest makes room for a new
    one."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, limits: ConnectionLimits) -> None:
        super().__init__(runner)
        self._host, self._port, self._limits = host, port, limits
        self._pending = PendingConnections(limits)

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await super().start()
        server = self._runner.server
        assert server is not None

        def make_handler() -> GuardedHandler:
            def abort() -> None:
                if handler.transport is not None:
                    handler.transport.abort()

            handler = GuardedHandler(server, self._limits, self._pending.enter("", abort), lambda _: False)
            return handler

        self._server = await asyncio.get_running_loop().create_server(make_handler, self._host, self._port)
