"""Which endpoints a Node uses (topology.go CategorizeEndpoints). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vk_provider.serviceproxy.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Usable:
    """cluster:   for traffic under the policy Cluster; empty when the port has no such traffic
    local:     for traffic under the policy Local; empty as well when no endpoint of the Node is usable
    anywhere:  some endpoint could be used, if not from this Node: what cannot be delivered is then dropped, so that
               the client tries again, and not refused
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    anywhere: bool


def choose_endpoints(
    endpoints: Sequence[Endpoint], node_name: str, zone: str, uses_cluster: bool, uses_local: bool
) -> Usable:
    """The usable endpoints: ready ones, and terminating ones that still answer where none is ready.

    uses_cluster, uses_local: whether the port has traffic under the policy Cluster, and under Local.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    last_resort = [endpoint for endpoint in endpoints if endpoint.is_last_resort]
    cluster: list[Endpoint] = []
    if uses_cluster:
        cluster = _prefer_near(ready, node_name, zone) or last_resort
    local: list[Endpoint] = []
    if uses_local and node_name:
        local = [endpoint for endpoint in ready if endpoint.node == node_name]
        local = local or [endpoint for endpoint in last_resort if endpoint.node == node_name]
    anywhere = bool(cluster or (uses_local and (ready or last_resort)))
    return Usable(tuple(cluster), tuple(local), anywhere)


def _prefer_near(ready: list[Endpoint], node_name: str, zone: str) -> list[Endpoint]:
    """Those hinted for the Node, else for its zone. Hints count only when every ready endpoint has some and one is for
    us (topologyModeFromHints); the EndpointSlice controller makes them from trafficDistribution."""
    for ours in (
        [node_name in endpoint.node_hints if endpoint.node_hints else None for endpoint in ready],
        [zone in endpoint.zone_hints if endpoint.zone_hints else None for endpoint in ready],
    ):
        if None not in ours and True in ours:
            return [endpoint for endpoint, near in zip(ready, ours, strict=True) if near]
    return ready
