"""Errors that the loop reports are logged, except what a closed TLS connection causes by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vk_provider.aiokit.loop_errors import handle_loop_error

CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed")
"""As uvloop raises it (handles/handle.pyx, _ensure_alive)."""


@pytest.mark.parametrize(
    ("message", "error", "levels"),
    [
        ("Fatal error on SSL protocol", CLOSED, []),
        ("Fatal error on transport", CLOSED, ["ERROR"]),
        ("Fatal error on SSL protocol", RuntimeError("the protocol is odd"), ["ERROR"]),
        ("Fatal error on SSL protocol", OSError("the handler is closed"), ["ERROR"]),
    ],
)
@pytest.mark.parametrize("transport", ["closed", "open", "none"])
async def test_only_a_write_of_tls_to_a_closed_handle_stays_out_of_the_log(
    message: str, error: Exception, levels: list[str], transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    if transport == "closed":
        writer.close()
    context: dict[str, Any] = {"message": message, "exception": error}
    context["transport"] = None if transport == "none" else writer.transport
    handle_loop_error(asyncio.get_running_loop(), context)
    writer.close()
    server.close()
    await server.wait_closed()
    assert [record.levelname for record in caplog.records] == levels


async def test_an_error_without_a_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    handle_loop_error(asyncio.get_running_loop(), {"message": "odd", "exception": CLOSED})
    assert [record.levelname for record in caplog.records] == ["ERROR"]
