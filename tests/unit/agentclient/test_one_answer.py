"""Interim answers of an agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from vk_provider.agentclient.one_answer import refuse_interim_answers

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., object]]:
    """Asks a server that answers with the given bytes, without end when `endless`."""
    answer, endless = b"", False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            writer.write(answer)
            await writer.drain()
            while endless:
                writer.write(answer * 100)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connector = aiohttp.TCPConnector()
    refuse_interim_answers(connector)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def get(data: bytes, *, is_endless: bool = False) -> str:
            nonlocal answer, endless
            answer, endless = data, is_endless
            async with asyncio.timeout(5.0), http.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as got:
                return await got.text()

        yield get
    server.close()
    await server.wait_closed()


async def test_an_answer_is_taken(ask: Callable[..., asyncio.Future[str]]) -> None:
    assert await ask(ANSWER) == "ok"


@pytest.mark.parametrize("endless", [False, True])
async def test_an_interim_answer_ends_the_connection(ask: Callable[..., asyncio.Future[str]], endless: bool) -> None:
    data = INTERIM if endless else INTERIM + ANSWER
    with pytest.raises(aiohttp.ClientPayloadError, match="interim answer 103"):
        await ask(data, is_endless=endless)
