"""One answer to one request: no interim answers from agents.

HTTP lets a server send any number of 1xx answers before the real one. An agent has no use for them, and aiohttp skips
them without giving way: a stream of them holds the event loop and fills memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler


class OneAnswer(ResponseHandler):
    """Ends the connection at an interim answer; 101 is a final one."""

    def feed_data(self, data: Any, size: int = 0) -> None:
        message, _ = data
        if self._exception is not None:
            return
        if message.code < 200 and message.code != 101:
            self.set_exception(aiohttp.ClientPayloadError(f"an interim answer {message.code}"))
            if self.transport is not None:
                self.transport.abort()
            return
        super().feed_data(data, size)


def refuse_interim_answers(connector: aiohttp.TCPConnector) -> None:
    """For every connection that the connector opens from now on."""
    build: Any = partial(OneAnswer, loop=connector._loop)
    connector._factory = build
