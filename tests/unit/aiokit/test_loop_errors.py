"""Errors that the loop reports are logged, except what a closed TLS connection causes by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vk_provider.aiokit.loop_errors import handle_loop_error


@pytest.mark.parametrize("closed", [True, False])
async def test_only_a_write_to_a_connection_that_was_closed_here_stays_out_of_the_log(
    closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    if closed:
        writer.close()
    error = RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
    context: dict[str, Any] = {"message": "Fatal error on SSL protocol", "exception": error}
    handle_loop_error(asyncio.get_running_loop(), {**context, "transport": writer.transport})
    writer.close()
    server.close()
    await server.wait_closed()
    assert [record.levelname for record in caplog.records] == ([] if closed else ["ERROR"])


async def test_any_other_error_of_a_closed_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    handle_loop_error(asyncio.get_running_loop(), {"message": "odd", "exception": RuntimeError("the loop is odd")})
    assert [record.levelname for record in caplog.records] == ["ERROR"]
