"""A listening TLS socket for aiohttp that lets slow readers finish.

asyncio drops a TLS connection 30 s after it began to close it, with what was not read yet: the end of a long output
piped into a pager would be lost. aiohttp's own site does not pass the limit on.
"""

from __future__ import annotations

import asyncio
import ssl

from aiohttp import web

TLS_SHUTDOWN_S = 600.0


class TlsSite(web.BaseSite):
    """Like web.TCPSite with TLS, with `TLS_SHUTDOWN_S` for the end of a connection."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext, backlog: int = 512
    ) -> None:
        super().__init__(runner, ssl_context=context, backlog=backlog)
        self._host, self._port = host, port

    @property
    def name(self) -> str:
        return f"https://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        await super().start()
        assert self._runner.server is not None
        server = await asyncio.get_running_loop().create_server(
            self._runner.server,
            self._host,
            self._port,
            ssl=self._ssl_context,
            ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            backlog=self._backlog,
        )
        self._server = server
        self._port = server.sockets[0].getsockname()[1]
