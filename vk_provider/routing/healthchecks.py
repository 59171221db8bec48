"""healthCheckNodePort: load balancers ask the Node which of its Services with externalTrafficPolicy Local have ready
endpoints on it. Served at the Node's address, on the machine that owns it.

Source: pkg/proxy/healthcheck/service_health.go, whose answers and event these are.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from vk_provider import eventreasons
from vk_provider.aiokit.connection_limits import ConnectionLimits, PendingConnections
from vk_provider.aiokit.headguard import GuardedHandler
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.fragment import HealthCheck
from vk_provider.serviceproxy.table import Table

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""Until a port that could not be had is tried again: kube-proxy's syncPeriod."""
LIMITS = ConnectionLimits(
    head_bytes=8 << 10, small_head_bytes=8 << 10, connections=256, peer_connections=256, head_s=10.0
)
"""Of all ports together. Nobody authenticates here; the oldest connection makes room for a new one."""
KEEPALIVE_S = 10.0

OnWarning = Callable[[str, Json, EventReason, str], None]
"""(Node, ObjectReference to a Service, reason, message)."""


@dataclass(frozen=True, slots=True)
class NodeChecks:
    """A Node at the address. is_healthy: whether its table is in force on this machine."""

    node: str
    source: ServiceTables
    is_healthy: Callable[[], bool]


@dataclass(slots=True)
class _Check:
    """A Service that has a port. local_endpoints: ready ones, on all Nodes at the address."""

    service: str
    port: int
    local_endpoints: int
    server: asyncio.Server | None = None
    connections: web.Server | None = None
    """Those that `server` has accepted."""


class TableChecks:
    """The checks of one Node's table, brought up to date by what has changed in it: there may be 10,000 Services, and
    several tables a second. Pure."""

    def __init__(self) -> None:
        self._revision = ""
        self._checks: dict[str, HealthCheck] = {}

    def follow(self, table: Table | None) -> Iterable[HealthCheck]:
        """Those of `table`, the newest one."""
        if table is None or table.revision == self._revision:
            return self._checks.values()
        is_next = bool(self._revision) and table.base == self._revision
        if not is_next:
            self._checks.clear()
        for key in table.changed if is_next else table.fragments:
            fragment = table.fragments.get(key)
            if fragment is not None and fragment.health_check is not None:
                self._checks[key] = fragment.health_check
            else:
                self._checks.pop(key, None)
        self._revision = table.revision
        return self._checks.values()


class HealthChecks:
    """Root task `run` serves the ports of one address. Several Nodes may have it: what one of them has an endpoint for,
    the machine serves."""

    def __init__(self, address: str, on_warning: OnWarning) -> None:
        self._address, self._on_warning = address, on_warning
        self._nodes: list[tuple[NodeChecks, TableChecks]] = []
        self._checks: dict[str, _Check] = {}
        self._pending = PendingConnections(LIMITS)

    def add_node(self, node: NodeChecks) -> None:
        """Before `run`."""
        self._nodes.append((node, TableChecks()))

    async def run(self) -> None:
        """Run until cancelled."""
        changed = asyncio.Event()
        unfollow = [node.source.follow(changed.set) for node, _ in self._nodes]
        try:
            while True:
                changed.clear()
                is_complete = await self._bring_up_to_date()
                try:
                    async with asyncio.timeout(None if is_complete else RETRY_S):
                        await changed.wait()
                except TimeoutError:
                    pass
        finally:
            for leave in unfollow:
                leave()
            for check in self._checks.values():
                _close(check)
            self._checks.clear()

    def list_ports(self) -> dict[str, int]:
        """Service -> the port that is served for it."""
        return {key: check.port for key, check in self._checks.items() if check.server is not None}

    async def _bring_up_to_date(self) -> bool:
        """Whether every port is served."""
        wanted = self._list_wanted()
        for key, check in list(self._checks.items()):
            if key not in wanted or wanted[key].port != check.port:
                _close(check)
                del self._checks[key]
        for key, new in wanted.items():
            check = self._checks.setdefault(key, new)
            check.local_endpoints = new.local_endpoints
            if check.server is None:
                await self._listen(check)
        return all(check.server is not None for check in self._checks.values())

    def _list_wanted(self) -> dict[str, _Check]:
        found: dict[str, _Check] = {}
        for node, checks in self._nodes:
            for item in checks.follow(node.source.newest):
                check = found.setdefault(item.service, _Check(item.service, item.port, 0))
                check.local_endpoints += item.local_endpoints
        return found

    async def _listen(self, check: _Check) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return answer(check.service, check.local_endpoints, all(node.is_healthy() for node, _ in self._nodes))

        server = web.Server(handle, access_log=None, keepalive_timeout=KEEPALIVE_S)

        def make_handler() -> GuardedHandler:
            def abort() -> None:
                if handler.transport is not None:
                    handler.transport.abort()

            handler = GuardedHandler(server, LIMITS, self._pending.enter("", abort), lambda _: False)
            return handler

        check.connections = server
        try:
            check.server = await asyncio.get_running_loop().create_server(
                make_handler, self._address, check.port, reuse_address=True
            )
        except OSError as error:
            self._warn(check, error)

    def _warn(self, check: _Check, error: OSError) -> None:
        namespace, _, name = check.service.partition("/")
        cause = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        for node, _ in self._nodes:
            message = (
                f'node {node.node} failed to start healthcheck "{check.service}" on port {check.port}: '
                f"listen tcp {self._address}:{check.port}: bind: {cause}"
            )
            log.error("%s", message)
            involved: Json = {"apiVersion": "v1", "kind": "Service", "namespace": namespace, "name": name}
            self._on_warning(node.node, involved, eventreasons.FAILED_TO_START_SERVICE_HEALTHCHECK, message)


def _close(check: _Check) -> None:
    """Connections that are open get no further answer than the one that they wait for: what a kept one would be told
    is never brought up to date again. One that is just being accepted finds no endpoints."""
    check.local_endpoints = 0
    if check.server is not None:
        check.server.close()
        check.server = None
    for handler in check.connections.connections if check.connections is not None else ():
        assert isinstance(handler, GuardedHandler)
        handler.retire()
    check.connections = None


def answer(service: str, local_endpoints: int, is_healthy: bool) -> web.Response:
    """What kube-proxy's hcHandler answers, to any request."""
    namespace, _, name = service.partition("/")
    text = (
        f'{{\n\t"service": {{\n\t\t"namespace": "{namespace}",\n\t\t"name": "{name}"\n\t}},\n'
        f'\t"localEndpoints": {local_endpoints},\n\t"serviceProxyHealthy": {"true" if is_healthy else "false"}\n}}'
    )
    return web.Response(
        status=200 if local_endpoints and is_healthy else 503,
        body=text.encode(),
        headers={
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
            "X-Load-Balancing-Endpoint-Weight": str(local_endpoints),
        },
    )
