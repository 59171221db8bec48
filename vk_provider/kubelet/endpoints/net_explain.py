"""/net/explain/{namespace}/{pod}?target=&protocol=: why a pod of this Node can connect to something, or cannot.

Not a kubelet's: `vk-provider net explain` asks it through the API server's proxy of the Node. Like every path that is
not named in kubelet/access/attributes.py it takes the permission for nodes/proxy, an administrator's: the answer names
Services, pods and policies of other namespaces.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from vk_provider.errors import KubeApiError
from vk_provider.explain.target import QuestionError
from vk_provider.kubelet.api import KubeletApi, require_get


def add_routes(app: web.Application, api: KubeletApi) -> None:
    explainer = api.explainer
    if explainer is None:
        return

    async def handle(request: web.Request) -> web.StreamResponse:
        require_get(request)
        handle = api.find_pod(request)
        if handle is None:
            return web.Response(status=404, text=f'pod "{request.match_info["pod"]}" does not exist')
        target, protocol = request.query.get("target", ""), request.query.get("protocol", "")
        try:
            explanation = await explainer.explain(handle.pod["metadata"]["uid"], target, protocol)
        except QuestionError as error:
            return web.Response(status=400, text=str(error))
        except KubeApiError as error:
            return web.Response(status=502, text=f"the API server does not answer the provider's question: {error}")
        except TimeoutError:
            return web.Response(status=503, text="the provider has not come to an answer in time: ask again")
        return web.Response(body=orjson.dumps(explanation), content_type="application/json")

    app.router.add_route("*", "/net/explain/{namespace}/{pod}", handle)
