"""Tables as messages to agents, encoded once for all of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from vk_provider.agentclient.tables import TableText
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_packed, render_table
from vk_provider.serviceproxy.table import Table, diff_tables
from vk_provider.wire.packed import encode_packed
from vk_provider.wire.session import MAX_DOWN_BYTES
from vk_provider.wire.tables import TableMessage, UdpFrontendEntry

VANTAGE = Vantage(sees_replies=False, is_instance=True)
"""Of an instance, without what its agent adds. The Node's other endpoints answer by their own way, not through it."""


PACKED_SERVICES = 500
"""A table of fewer is text for every agent: nft has read it by the time that packed elements need for themselves."""


def encode_whole(table: Table, node_addresses: Iterable[str], *, packed: bool = False) -> TableText:
    """packed: for agents that take packed elements."""
    bodies: list[bytes] = []
    if packed:
        text, bodies = render_packed(table, VANTAGE)
    else:
        text = render_table(table, VANTAGE)
    message = TableMessage(
        type="table",
        name="services",
        base="",
        revision=table.revision,
        text=text,
        nodeAddresses=list(node_addresses),
        udp=[_entry(item) for item in table.udp_frontends()],
    )
    if bodies:
        message["packed"] = encode_packed(bodies)
    return encode_table(message)


def encode_difference(earlier: Table, newest: Table) -> TableText:
    delta = diff_tables(earlier, newest)
    message = TableMessage(
        type="table",
        name="services",
        base=delta.base,
        revision=delta.revision,
        text=render_delta(delta),
        udp=[_entry(item) for item in delta.udp],
    )
    return encode_table(message)


def encode_table(message: TableMessage) -> TableText:
    """Raises ValueError for a table that no message can hold."""
    frame = orjson.dumps(message)
    if len(frame) > MAX_DOWN_BYTES:
        raise ValueError(f"a table of {len(frame)} bytes, more than a message may have")
    return TableText(message["base"], message["revision"], frame)


def _entry(item: UdpFrontend) -> UdpFrontendEntry:
    frontend = item.frontend
    return UdpFrontendEntry(
        family=int(frontend.family), address=frontend.address, port=frontend.port, serving=sorted(item.serving)
    )
