"""The agent's own metrics as Prometheus text, for debugging one instance."""

from __future__ import annotations

import resource
import time

from aiohttp import web

from vk_provider.agent.outbox import Outbox
from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.agent.session import SessionHandler
from vk_provider.aiokit.metrics import CONTENT_TYPE, LabelValues, Registry
from vk_provider.wire import routes

_TABLES_HELP = "Texts applied and refused, tables mended after a change of others or made once more in case of one."


def add_metrics_routes(app: web.Application, outbox: Outbox, session: SessionHandler, tables: TableKeeper) -> None:
    """Install routes.METRICS."""
    registry = _build_registry(outbox, session, tables)

    async def handle_metrics(_: web.Request) -> web.Response:
        return web.Response(body=registry.render().encode(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get(routes.METRICS, handle_metrics)


def _build_registry(outbox: Outbox, session: SessionHandler, tables: TableKeeper) -> Registry:
    registry = Registry()
    started = registry.gauge("vk_agent_start_time_seconds", "Start of the agent, Unix time.")
    started.set(time.time())

    def sessions() -> dict[LabelValues, float]:
        return {("opened",): session.opened, ("open",): int(session.is_open)}

    def events() -> dict[LabelValues, float]:
        return {("waiting",): len(outbox.unacknowledged()), ("dropped",): outbox.dropped_events}

    def cpu() -> dict[LabelValues, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {(): usage.ru_utime + usage.ru_stime}

    registry.gauge("vk_agent_sessions", "Sessions with the provider: opened so far, open now.", ("state",), sessions)
    registry.gauge("vk_agent_events", "Events not acknowledged, and dropped for want of room.", ("state",), events)
    registry.gauge("vk_agent_tables", _TABLES_HELP, ("table", "what"), tables.counts)
    registry.gauge("vk_agent_cpu_seconds", "CPU time of the agent.", (), cpu)
    return registry
