"""What is accepted of an agent's HTTP answer and may reach a client of the kubelet API: status, body, content type.

An agent never redirects and never asks for credentials; all other headers (Location, cookies, caching, authentication)
are dropped. One rule for requests, sessions and raw streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from vk_provider.errors import AgentError

_SUCCESS = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT})
_ASKS_FOR_CREDENTIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
_CONTENT_TYPES = frozenset({"text/plain", "text/plain; charset=utf-8", "application/json"})
DEFAULT_CONTENT_TYPE = "text/plain; charset=utf-8"


def check_status(status: int) -> None:
    """Raise AgentError for a status that no agent answers with, redirects above all."""
    refused = HTTPStatus.BAD_REQUEST <= status < 600 and status not in _ASKS_FOR_CREDENTIALS
    if status not in _SUCCESS and not refused:
        raise AgentError(f"the agent answered with status {status}, which is not followed")


def clean_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The only header that is accepted, Content-Type; a type that no agent sends is replaced by text/plain."""
    content_type = headers.get("Content-Type", "")
    return {"Content-Type": content_type if content_type in _CONTENT_TYPES else DEFAULT_CONTENT_TYPE}


async def refuse_redirects(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Client middleware of aiohttp: checks every answer, including that to a WebSocket handshake, before a redirect
    would be followed."""
    response = await handler(request)
    if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
        try:
            check_status(response.status)
        except AgentError:
            response.close()
            raise
    return response
