"""Messages about the nft tables of an instance: Services and NetworkPolicies, compiled by the provider.

The provider compiles a table once for all instances that share it and sends nft text: the whole table, or the
difference to a revision that the agent has named. Each text is one transaction, so a table is of one revision or of
another, never between. What differs from one instance to the next (its pod's address, the addresses of its node ports)
the agent adds to a whole table itself.

A revision is made of the table's content alone (serviceproxy.Table.revision). After a reconnect the agent names its
revisions in the greeting and gets nothing, a difference or the whole table. After each text it says what is in force.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from vk_provider.wire.values import Address, Count32, Counter

TABLES_FEATURE = "tables"
"""In the greeting of an agent that applies tables; others are sent none."""

TableName = Literal["services", "policy"]

Revision = Address
"""128 bits in the form of an IPv6 address; "" for no table."""
Port = Annotated[int, Meta(ge=0, le=65535)]
TableError = Annotated[str, Meta(max_length=1024)]
MAX_CONNECTIONS = 1000
"""That one answer lists."""
MAX_ANSWER_BYTES = 512 << 10
"""Of a TablesAnswer: twice as much as MAX_CONNECTIONS take."""


class UdpFrontendEntry(TypedDict):
    """A UDP address of a Service. Flows to it whose endpoint is not in `serving` ("address . port") are forgotten.
    address "": a node port."""

    family: int
    address: str
    port: int
    serving: list[str]


class TableMessage(TypedDict):
    """Down: a table, or the difference to one of the revision `base`.

    base:          "" when `text` makes the whole table, whatever there was before
    text:          commands of one nft transaction
    packed:        elements that go with the commands of a whole table (wire.packed); only to agents with PACKED_FEATURE
    nodeAddresses: of the Node, where node ports are answered, too; with a whole table of Services
    udp:           frontends whose flows are looked at after the text was applied
    """

    type: Literal["table"]
    name: TableName
    base: str
    revision: str
    text: str
    packed: NotRequired[str]
    nodeAddresses: NotRequired[list[str]]
    udp: NotRequired[list[UdpFrontendEntry]]


class TableStates(TypedDict, total=False):
    """The revision of each table that is in force on the instance."""

    services: Revision
    policy: Revision


class TablesMessage(TypedDict):
    """Up, after each TableMessage, and when what is in force has changed otherwise: what is in force now.

    name:  of the TableMessage that this answers; absent when it answers none
    error: of the text that was not applied; the provider answers with the whole table after a while
    """

    type: Literal["tables"]
    tables: TableStates
    name: NotRequired[TableName]
    error: NotRequired[TableError]


class TableCounts(TypedDict, total=False):
    """How many texts were applied and refused, how often the table was mended after a change of others, or made once
    more in case of one."""

    applied: Counter
    refused: Counter
    mended: Counter
    reapplied: Counter


class TableInfo(TypedDict):
    """revision: in force, "" for none; error: why the last text was not applied; waiting: texts not yet applied."""

    revision: Revision
    error: TableError
    waiting: Count32
    counts: TableCounts


class TableInfos(TypedDict, total=False):
    services: TableInfo
    policy: TableInfo


class ConnectionInfo(TypedDict):
    """A connection to the address that was asked about. endpoint: who answers, the address itself where nothing was
    translated; protocol: its name, or the number of one without."""

    protocol: Annotated[str, Meta(max_length=8, pattern=r"^[A-Z0-9]*\Z")]
    source: Address
    sourcePort: Port
    port: Port
    endpoint: Address
    endpointPort: Port
    answered: bool


class PolicyDrops(TypedDict, total=False):
    """Packets that the policies of the pod have dropped since the table was last made as a whole."""

    ingress: Counter
    egress: Counter


class TablesAnswer(TypedDict):
    """The answer of routes.TABLES. Absent: `connections` without an address, `drops` when they cannot be read."""

    tables: TableInfos
    connections: NotRequired[Annotated[list[ConnectionInfo], Meta(max_length=MAX_CONNECTIONS)]]
    drops: NotRequired[PolicyDrops]
