"""Our tables in the node's namespace of a bed, applied as an agent would: one transaction for each change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tests.integration.serviceproxy.bed import Bed
from tests.service_objects import LOCAL_PODS, LOCAL_PODS6, NODE, NODE4, NODE6, PODS, PODS6
from vk_provider.aiokit.nft import list_revision, parse_revision
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.conntrack import Flow, select_stale
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.frame import TABLE
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_table
from vk_provider.serviceproxy.table import Table, diff_tables

LOCAL = tuple(pod for pod in (*PODS, *PODS6) if pod.startswith(("10.1.0.", "fd00:1:")))
VANTAGE = Vantage((LOCAL_PODS, LOCAL_PODS6, *LOCAL), (NODE4, NODE6))
_FLOW = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)(?: \[UNREPLIED\])? src=(\S+) dst=(\S+) sport=(\d+)")


class OurProxy:
    """`set_service` and `set_slice` as KubeProxy; `apply` brings the namespace up to date.

    spoil: changes the text that is applied, to put a fault into it
    """

    def __init__(
        self,
        bed: Bed,
        zone: str = "",
        cidrs: tuple[str, ...] = (),
        vantage: Vantage = VANTAGE,
        spoil: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.bed, self.vantage, self._zone, self._spoil = bed, vantage, zone, spoil
        self.index = ServiceIndex(NODE, (NODE4, NODE6))
        self.index.set_service_cidrs(cidrs)
        self.table: Table | None = None

    def set_service(self, key: str, item: Json | None) -> None:
        if item is None:
            self.index.remove_service(*key.split("/"))
        else:
            self.index.apply_service(item)

    def set_slice(self, key: str, item: Json | None) -> None:
        if item is None:
            self.index.remove_slice(*key.split("/"))
        else:
            self.index.apply_slice(item)

    def apply(self) -> str:
        """The text that was applied."""
        table = self.index.table(self._zone)
        if self.table is None:
            text, udp = render_table(table, self.vantage), tuple(table.udp_frontends())
        else:
            delta = diff_tables(self.table, table)
            text, udp = render_delta(delta), delta.udp
        self.bed.nft(self._spoil(text))
        self.table = table
        self.clean(udp)
        return text

    def revision(self) -> str | None:
        return parse_revision(self.bed.run_node("nft", *list_revision(TABLE)))

    def clean(self, frontends: Iterable[UdpFrontend]) -> None:
        """Delete the entries of stale flows."""
        flows, sources = self._flows()
        stale = set(select_stale(flows, frontends, self.vantage.nodeport_addresses))
        for flow, (source, port) in zip(flows, sources, strict=True):
            if flow in stale:
                self.bed.run_node(
                    *f"conntrack -D -p udp -s {source} --sport {port} -d {flow.original_destination} "
                    f"--dport {flow.original_port} -f ipv{flow.family}".split(),
                    check=False,  # it may have ended by itself
                )

    def _flows(self) -> tuple[list[Flow], list[tuple[str, str]]]:
        """UDP flows, and source and port of each."""
        flows: list[Flow] = []
        sources: list[tuple[str, str]] = []
        for family in Family:
            command = f"conntrack -L -p udp -f ipv{family}".split()
            for match in _FLOW.finditer(self.bed.run_node(*command, check=False)):
                source, target, sport, dport, answering, _, answer_port = match.groups()
                original, reply = parse_address(target), parse_address(answering)
                assert original and reply
                flows.append(Flow(family, original[1], int(dport), reply[1], int(answer_port)))
                sources.append((source, sport))
        return flows, sources
