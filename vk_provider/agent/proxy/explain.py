"""What this instance knows of its tables and of the connections to one address: for `net explain`.

GET routes.TABLES, with ?address= for the connections. Answer: wire.tables.TablesAnswer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re

from aiohttp import web

from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.aiokit.nft import NftError, NftTable
from vk_provider.jsontypes import Json
from vk_provider.wire import routes
from vk_provider.wire.tables import MAX_CONNECTIONS, PolicyDrops

log = logging.getLogger(__name__)

_DROPS = re.compile(r"counter packets (\d+) bytes \d+ drop")
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


def add_table_routes(app: web.Application, keeper: TableKeeper) -> None:
    """Install routes.TABLES."""

    async def handle(request: web.Request) -> web.Response:
        answer: Json = {"tables": keeper.describe()}
        try:
            answer["drops"] = await read_drops(keeper.in_force("policy"))
        except NftError as error:
            log.warning("what policies have dropped cannot be read: %s", error)
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


async def read_drops(table: NftTable) -> PolicyDrops:
    """Packets that the policies of the pod have dropped: the last rule of each direction's chain counts them. Raises
    NftError."""
    ingress, egress = [_DROPS.search(await table.list_chain(chain)) for chain in ("ingress", "egress")]
    return PolicyDrops(ingress=int(ingress[1]) if ingress else 0, egress=int(egress[1]) if egress else 0)


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
