"""Which UDP flows are forgotten."""

from __future__ import annotations

from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.conntrack import Flow, select_stale
from vk_provider.serviceproxy.fragment import UdpFrontend
from vk_provider.serviceproxy.frontend import Frontend

SERVICE = UdpFrontend(Frontend(Family.IPV4, "10.96.0.10", 17, 53), frozenset({"10.1.0.1 . 5353"}))
NODEPORT = UdpFrontend(Frontend(Family.IPV4, "", 17, 30053), frozenset())


def flow(target: str, port: int, reply: str, reply_port: int) -> Flow:
    return Flow(Family.IPV4, target, port, reply, reply_port)


def stale(*flows: Flow, frontends: tuple[UdpFrontend, ...] = (SERVICE, NODEPORT)) -> list[Flow]:
    return list(select_stale(flows, frontends, ("10.255.0.1",)))


def test_a_flow_to_an_endpoint_that_serves_stays() -> None:
    assert not stale(flow("10.96.0.10", 53, "10.1.0.1", 5353))


def test_a_flow_to_an_endpoint_that_is_gone_is_forgotten() -> None:
    gone, other_port = flow("10.96.0.10", 53, "10.1.0.2", 5353), flow("10.96.0.10", 53, "10.1.0.1", 5354)
    assert stale(gone, other_port) == [gone, other_port]


def test_a_flow_from_before_the_service_had_endpoints_is_forgotten() -> None:
    early = flow("10.96.0.10", 53, "10.96.0.10", 53)
    assert stale(early) == [early]


def test_a_node_port_is_looked_at_on_the_nodes_addresses_alone() -> None:
    ours, elsewhere = flow("10.255.0.1", 30053, "10.1.0.2", 53), flow("192.0.2.1", 30053, "192.0.2.1", 30053)
    assert stale(ours, elsewhere) == [ours]


def test_flows_to_other_places_stay() -> None:
    assert not stale(flow("10.96.0.11", 53, "10.1.0.2", 53), flow("10.96.0.10", 54, "10.1.0.2", 53))
    assert not stale(flow("10.96.0.10", 53, "10.1.0.2", 53), frontends=())
