"""What of an agent's HTTP answer counts, and what of it reaches a client of the kubelet API: status, body, type.

An agent never sends anybody elsewhere and never asks for credentials; whatever else it writes into the head of an
answer (Location, cookies, caching, authentication) ends here. One rule for requests, sessions and raw streams.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from vk_provider.errors import AgentError

SWITCHING = 101
_SUCCESS = frozenset({200, 204})
_ASKS_FOR_CREDENTIALS = frozenset({401, 407})
_CONTENT_TYPES = frozenset({"text/plain", "text/plain; charset=utf-8", "application/json"})
DEFAULT_CONTENT_TYPE = "text/plain; charset=utf-8"


def check_status(status: int) -> None:
    """Raise AgentError for a status that no agent answers with: redirects above all."""
    refused = 400 <= status < 600 and status not in _ASKS_FOR_CREDENTIALS
    if status not in _SUCCESS and not refused:
        raise AgentError(f"the agent answered with status {status}, which is not followed")


def clean_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The one header of an answer that counts, Content-Type; one that no agent sends is taken for plain text."""
    content_type = headers.get("Content-Type", "")
    return {"Content-Type": content_type if content_type in _CONTENT_TYPES else DEFAULT_CONTENT_TYPE}


async def refuse_redirects(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Client middleware of aiohttp: it sees every answer, that to a WebSocket's opening too, before a redirect would
    be followed."""
    response = await handler(request)
    if response.status != SWITCHING:
        try:
            check_status(response.status)
        except AgentError:
            response.close()
            raise
    return response
