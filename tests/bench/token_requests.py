"""What bound service account tokens cost the API server, without anybody else: each is signed, and looks its pod up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tests.bench.api import Api, run_all
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import cpu_seconds
from vk_provider.jsontypes import Json

COUNT = 1000
ROUNDS = 3
NOWHERE = "nowhere"
"""The name of a Node that nobody keeps: nobody runs its pods. It exists: each TokenRequest looks it up, and without it
the pods would be collected as garbage."""


@dataclass(frozen=True, slots=True)
class TokenCost:
    """per_s: TokenRequests that the API server answers; server_ms: its CPU for one."""

    per_s: float
    server_ms: float


async def measure(api: Api, namespace: str, server_pid: int) -> TokenCost:
    """COUNT at once, 64 at a time, as the client of `burst` creates pods; the median of some rounds. The namespace is
    left with one pod."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NOWHERE}}
    if not await api.exists(f"/api/v1/nodes/{NOWHERE}"):
        await api.call("POST", "/api/v1/nodes", node)
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bearer"},
        "spec": {"nodeName": NOWHERE, "containers": [{"name": "c", "image": "burst:1"}]},
    }
    created = await api.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "bearer", "uid": created["metadata"]["uid"]}
    request: Json = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3607, "boundObjectRef": bound},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    rates, costs = [], []
    for _ in range(ROUNDS):
        cpu, started = cpu_seconds(server_pid), time.perf_counter()
        await run_all(partial(api.call, "POST", path, request) for _ in range(COUNT))
        rates.append(COUNT / (time.perf_counter() - started))
        costs.append((cpu_seconds(server_pid) - cpu) / COUNT * 1000)
    return TokenCost(statistics.median(rates), statistics.median(costs))


def figures(ours: Sequence[float], without: float, kwok: float, cost: TokenCost) -> list[Figure]:
    """The API server's own cost of a TokenRequest is the limit: what it takes for these comes on top of the pods. Rates
    are pods/s: ours with tokens, ours and KWOK's without."""
    limit = 1 / (1 / without + 1 / cost.per_s)
    said = f"{cost.per_s:.0f} TokenRequests a second alone, {cost.server_ms:.1f} ms of its CPU each"
    return [
        median_figure(
            "burst_with_tokens",
            ours,
            "pods/s",
            note=f"each pod with its own bound token (TokenRequest); without: {without:.0f}, KWOK without: {kwok:.0f}",
        ),
        Figure(
            "burst_tokens_ratio",
            statistics.median(ours) / limit,
            "x the limit",
            goal=0.95,
            most=False,
            note=f"the API server answers {said}: {limit:.0f} pods/s at most",
        ),
    ]
