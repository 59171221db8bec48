"""UDP flows of the instance to endpoints that have gone, as the messages name them. Blocking; call in a thread."""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.conntrack import forget_stale
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.service import UDP
from vk_provider.wire.tables import UdpFrontendEntry


def forget_flows(entries: Iterable[UdpFrontendEntry], nodeport_addresses: Iterable[str]) -> int:
    """See conntrack.forget_stale."""
    return forget_stale((_to_frontend(entry) for entry in entries), nodeport_addresses)


def _to_frontend(entry: UdpFrontendEntry) -> UdpFrontend:
    frontend = Frontend(Family(entry["family"]), entry["address"], UDP, entry["port"])
    return UdpFrontend(frontend, frozenset(entry["serving"]))
