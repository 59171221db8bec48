"""/bill/instances and /bill/cost?by=&since=&until=&source=&alone=: what runs for this Node, and what it has cost.

Not a kubelet's: `vk-provider instances` and `vk-provider cost` ask it through the API server's proxy of the Node. Like
every path that is not named in kubelet/access/attributes.py it takes the permission for nodes/proxy.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from vk_provider.errors import CloudError
from vk_provider.kubelet.api import KubeletApi, require_get
from vk_provider.ledger.question import CostQuestionError
from vk_provider.ledger.store import LedgerStoreError

ASKED = ("by", "since", "until", "source", "alone")


def add_routes(app: web.Application, api: KubeletApi) -> None:
    bills = api.bills
    if bills is None:
        return

    async def instances(request: web.Request) -> web.StreamResponse:
        require_get(request)
        return _json({"instances": list(bills.instances(api.node))})

    async def cost(request: web.Request) -> web.StreamResponse:
        require_get(request)
        given = {name: request.query[name] for name in ASKED if name in request.query}
        try:
            return _json(await bills.cost(api.node, given))
        except CostQuestionError as error:
            return web.Response(status=400, text=str(error))
        except (LedgerStoreError, CloudError) as error:
            return web.Response(status=503, text=str(error))

    app.router.add_route("*", "/bill/instances", instances)
    app.router.add_route("*", "/bill/cost", cost)


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
