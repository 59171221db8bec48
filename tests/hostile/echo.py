"""A streaming server that stands for containerd's: it switches protocols and sends back what it reads."""

from __future__ import annotations

import asyncio
from typing import Any

from vk_provider.agent.runtime import ExecResult

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


class EchoRuntime:
    """The part of vk_provider.agent.runtime that the agent's stream routes use."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(SWITCHED)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client or the agent went away
        finally:
            self._open.discard(writer)
            writer.close()

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: int) -> ExecResult:
        return ExecResult(" ".join(command).encode(), b"", 0)

    async def exec_url(self, *_: Any) -> str:
        return self._url()

    async def attach_url(self, *_: Any) -> str:
        return self._url()

    async def port_forward_url(self, *_: Any) -> str:
        return self._url()

    def _url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/stream"
