"""What this instance knows of its tables and of the connections to one address: for `net explain`.

GET routes.TABLES, with ?address= for the connections. Answer:
    {"tables": {name: {"revision", "error", "waiting", "counts": {"applied", "refused", "mended", "reapplied"}}},
     "connections": [{"protocol", "source", "sourcePort", "port", "endpoint", "endpointPort", "answered"}]}
`endpoint` is who answers: the address itself where nothing was translated.
"""

from __future__ import annotations

import asyncio
import itertools

from aiohttp import web

from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.jsontypes import Json
from vk_provider.wire import routes

MAX_CONNECTIONS = 1000
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


def add_table_routes(app: web.Application, keeper: TableKeeper) -> None:
    """Install routes.TABLES."""

    async def handle(request: web.Request) -> web.Response:
        answer: Json = {"tables": keeper.describe()}
        address = request.query.get("address")
        if address:
            try:
                answer["connections"] = await asyncio.to_thread(list_connections, address)
            except ValueError:
                return web.Response(status=400, text=f"not an address: {address[:64]}\n")
            except OSError as error:
                return web.Response(status=500, text=f"the connections cannot be read: {error.strerror}\n")
        return web.json_response(answer)

    app.router.add_get(routes.TABLES, handle)


def list_connections(address: str) -> list[Json]:
    """Connections to `address`, MAX_CONNECTIONS at most. Blocking. Raises OSError, ValueError."""
    from vk_provider.conntrack import list_to  # only for who asks: it takes time

    return [
        {
            "protocol": _PROTOCOLS.get(entry.protocol, str(entry.protocol)),
            "source": entry.original.source,
            "sourcePort": entry.original.source_port,
            "port": entry.original.target_port,
            "endpoint": entry.reply.source,
            "endpointPort": entry.reply.source_port,
            "answered": entry.is_answered,
        }
        for entry in itertools.islice(list_to(address), MAX_CONNECTIONS)
    ]
