"""Which flows must be forgotten after a change (conntrack/cleanup.go). Pure.

A UDP flow outlives the choice that was made for its first packet as long as it goes on: when its endpoint is gone, or
was chosen by nobody because the Service had none yet, its entry is to be deleted. A TCP connection notices by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.fragment import UdpFrontend


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP entry of the connection tracking table: where its first packet went, and who answers. Canonical
    addresses."""

    family: Family
    original_destination: str
    original_port: int
    reply_source: str
    reply_port: int


def select_stale(
    flows: Iterable[Flow], frontends: Iterable[UdpFrontend], nodeport_addresses: Iterable[str]
) -> Iterator[Flow]:
    """Flows to one of `frontends` whose endpoint is not serving.

    frontends: of a Delta after it was applied, of a whole Table otherwise. A flow to a Service that is gone stays, as
    with kube-proxy. A node port counts at `nodeport_addresses` alone; kube-proxy, which does not know them here, keeps
    the flows of a node port whose last endpoint has gone.
    """
    serving = {(item.frontend.family, item.frontend.address, item.frontend.port): item.serving for item in frontends}
    node = frozenset(nodeport_addresses)
    if not serving:
        return
    for flow in flows:
        known = serving.get((flow.family, flow.original_destination, flow.original_port))
        if known is None and flow.original_destination in node:
            known = serving.get((flow.family, "", flow.original_port))
        if known is not None and f"{flow.reply_source} . {flow.reply_port}" not in known:
            yield flow
