"""The agent's own metrics as Prometheus text, for debugging one instance."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from vk_provider.agent.outbox import Outbox
from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.agent.session import SessionHandler
from vk_provider.aiokit.exposition import CONTENT_TYPE, format_head, format_labels, format_value
from vk_provider.wire import routes

LabelValues = tuple[str, ...]
_TABLES_HELP = "Texts applied and refused, tables mended after a change of others or made once more in case of one."


@dataclass(frozen=True, slots=True)
class Family:
    """A gauge. compute() -> label values in the order of `labels`, and their value."""

    name: str
    help_text: str
    labels: tuple[str, ...]
    compute: Callable[[], Mapping[LabelValues, float]]

    def render(self) -> str:
        lines = [
            f"{self.name}{format_labels(zip(self.labels, values, strict=True))} {format_value(value)}\n"
            for values, value in sorted(self.compute().items())
        ]
        return format_head(self.name, "gauge", self.help_text) + "".join(lines)


def add_metrics_routes(app: web.Application, outbox: Outbox, session: SessionHandler, tables: TableKeeper) -> None:
    """Install routes.METRICS."""
    families = build_families(outbox, session, tables)

    async def handle_metrics(_: web.Request) -> web.Response:
        text = "".join(family.render() for family in families)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get(routes.METRICS, handle_metrics)


def build_families(outbox: Outbox, session: SessionHandler, tables: TableKeeper) -> tuple[Family, ...]:
    started = time.time()

    def sessions() -> dict[LabelValues, float]:
        return {("opened",): session.opened, ("open",): int(session.is_open)}

    def events() -> dict[LabelValues, float]:
        return {("waiting",): len(outbox.unacknowledged()), ("dropped",): outbox.dropped_events}

    def cpu() -> dict[LabelValues, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {(): usage.ru_utime + usage.ru_stime}

    return (
        Family("vk_agent_start_time_seconds", "Start of the agent, Unix time.", (), lambda: {(): started}),
        Family("vk_agent_sessions", "Sessions with the provider: opened so far, open now.", ("state",), sessions),
        Family("vk_agent_events", "Events not acknowledged, and dropped for want of room.", ("state",), events),
        Family("vk_agent_tables", _TABLES_HELP, ("table", "what"), tables.counts),
        Family("vk_agent_cpu_seconds", "CPU time of the agent.", (), cpu),
    )
