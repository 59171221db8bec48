"""The taint that the Nodes have while cases are played on them, for pods that do not tolerate it."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.errors import ClusterError
from tests.differential.api import Api
from vk_provider.jsontypes import Json

KEY = "diff.example.com/away"
TAINT: Json = {"key": KEY, "value": "yes", "effect": "NoExecute"}
ATTEMPTS = 10
"""At a Node that others write, too."""


async def add_taint(api: Api, node: str) -> None:
    """Also when an interrupted run has left it there."""
    await _change(api, node, lambda taints: [*_without(taints), TAINT])


async def remove_taint(api: Api, node: str) -> None:
    """All other taints stay."""
    await _change(api, node, _without)


def _without(taints: list[Json]) -> list[Json]:
    return [taint for taint in taints if taint["key"] != KEY]


async def _change(api: Api, node: str, change: Callable[[list[Json]], list[Json]]) -> None:
    path = f"/api/v1/nodes/{node}"
    for _ in range(ATTEMPTS):
        found = (await api.call("GET", path)).json
        found["spec"]["taints"] = change(found["spec"].get("taints") or [])
        answer = await api.call("PUT", path, found)
        if answer.ok:
            return
    raise ClusterError(f"the taints of node {node} cannot be changed: {answer.message}", "look at the API server")
