"""What the event loop itself reports: known noise of uvloop stays out of the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of the provider's loop.

    uvloop calls it a fatal error, with a traceback, when the answer to bytes that came last cannot be written to a TLS
    connection that this side has closed. There is nothing to do and nobody to tell.
    """
    error, transport = context.get("exception"), context.get("transport")
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error) and _is_closed(transport):
        log.debug("%s: %s", context.get("message"), error)
        return
    loop.default_exception_handler(context)


def _is_closed(transport: object) -> bool:
    return hasattr(transport, "is_closing") and bool(transport.is_closing())
