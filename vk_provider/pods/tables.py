"""The tables of pods' instances: which ones each is sent, what its agent says of them, what is reported when one fails.

Where tables come from is not this room's business: `sources` gives those of a pod (agentclient.tables.TableSource).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from vk_provider import eventreasons
from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.agentclient.tables import TableFlow, TableSource, TableText
from vk_provider.aiokit.permits import Permits
from vk_provider.pods.metrics import TableMetrics
from vk_provider.pods.record import OnEvent, PodRecord
from vk_provider.wire.inbound import printable
from vk_provider.wire.packed import PACKED_FEATURE
from vk_provider.wire.session import HelloMessage
from vk_provider.wire.tables import TABLES_FEATURE, TableName, TablesMessage

log = logging.getLogger(__name__)

LARGE_TEXTS = 4
"""Large texts that are written at once, each for so many seconds at most."""
LARGE_TEXT_S = 5.0
SLOTS: dict[TableName, Slot] = {"services": Slot.SERVICES_TABLE, "policy": Slot.POLICY_TABLE}

Sources = Callable[[PodRecord], Sequence[TableSource]]


class PodTables:
    """Holds the flows of each open session in its record (`record.tables`)."""

    def __init__(
        self, sources: Sources, event: OnEvent, metrics: TableMetrics, records: Callable[[], Iterable[PodRecord]]
    ) -> None:
        self._sources, self._event, self.metrics = sources, event, metrics
        self._permits = Permits(LARGE_TEXTS, LARGE_TEXT_S)
        metrics.follow(lambda: [(flow.name, flow.behind_s()) for record in records() for flow in record.tables])

    def greet(self, record: PodRecord, hello: HelloMessage) -> None:
        """A session has begun: from what the agent has to the newest tables. An earlier agent is sent none."""
        self.close(record.tables)
        session = record.session
        if session is None or not session.has(TABLES_FEATURE):
            return
        states = hello.get("tables") or {}
        for source in self._sources(record):
            observer = _Observer(self, record, source.name)
            in_force, packed = states.get(source.name, ""), session.has(PACKED_FEATURE)
            flow = TableFlow(source, partial(_offer, session), observer, self._permits, in_force, packed=packed)
            record.tables.append(flow)

    def receive(self, record: PodRecord, message: TablesMessage) -> None:
        """The agent's word about what is in force."""
        error = printable(message.get("error", ""))
        for flow in record.tables:
            flow.answer(message["tables"].get(flow.name, ""), error, message.get("name"))

    def names(self, record: PodRecord) -> list[TableName]:
        """The tables that must be in force before a container of the pod starts (NodeFacts.tables)."""
        return [flow.name for flow in record.tables]

    def close(self, flows: list[TableFlow]) -> None:
        """The session has ended, whether the instance still has the pod or not."""
        for flow in flows:
            flow.close()
        flows.clear()

    def failed(self, record: PodRecord, name: TableName, message: str) -> None:
        self.metrics.failures.labels(name).inc()
        log.warning("pod %s: its table %s is not in force: %s", record.key, name, message)
        self._event(
            record, "Warning", eventreasons.TABLE_FAILED, f"the table of {_TITLES[name]} is not in force: {message}"
        )


_TITLES: dict[TableName, str] = {"services": "Services", "policy": "network policies"}


class _Observer:
    """agentclient.tables.TableObserver of one flow."""

    __slots__ = ("_name", "_record", "_tables")

    def __init__(self, tables: PodTables, record: PodRecord, name: TableName) -> None:
        self._tables, self._record, self._name = tables, record, name

    def sent(self, text: TableText) -> None:
        kind = "difference" if text.base else "whole"
        self._tables.metrics.sent_bytes(self._name, kind).inc(len(text.frame))

    def applied(self, seconds: float) -> None:
        self._tables.metrics.applied_seconds(self._name).observe(seconds)

    def failed(self, message: str) -> None:
        self._tables.failed(self._record, self._name, message)


def _offer(session: AgentSession, flow: TableFlow) -> None:
    session.put(SLOTS[flow.name], flow)
