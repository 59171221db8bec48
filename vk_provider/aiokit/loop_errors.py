"""What the event loop itself reports: known noise of uvloop stays out of the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of the provider's loop.

    uvloop calls it a fatal error of TLS, with a traceback, when the answer to bytes that came last cannot be written
    to a connection whose handle has been closed. There is nothing to do and nobody to tell. The transport is no
    witness: it may be None, and where a lost connection closed the handle, `is_closing` is still false.
    """
    message, error = str(context.get("message")), context.get("exception")
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error) and "SSL protocol" in message:
        log.debug("%s: %s", message, error)
        return
    loop.default_exception_handler(context)
