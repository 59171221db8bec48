"""Host ports of the Node's pods beside Services."""

from __future__ import annotations

from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from tests.unit.routing.objects import AppliedTable
from tests.unit.serviceproxy.reading import build_index, read
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_table
from vk_provider.serviceproxy.table import diff_tables

NODE = "10.255.0.1"


def test_a_host_port_leads_from_the_nodes_address_to_the_pod_and_keeps_the_source() -> None:
    index = build_index([])
    index.set_host_ports(
        "u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80), HostPort(NODE, "UDP", 53, "10.1.0.1", 5353)], (NODE,)
    )
    table = index.table()
    assert read(table, NODE, 8080).endpoints == ["10.1.0.1 . 80"]
    assert read(table, NODE, 53, "UDP").endpoints == ["10.1.0.1 . 5353"]
    assert read(table, NODE, 8080).verdict == "cluster"  # as external would be, but not masqueraded
    assert [(item.frontend.port, item.serving) for item in table.udp_frontends()] == [(53, {"10.1.0.1 . 5353"})]


def test_a_host_ip_that_is_not_the_nodes_is_reached_by_nobody_else() -> None:
    index = build_index([])
    before = index.table().revision
    index.set_host_ports("u1", [HostPort("10.255.0.9", "TCP", 8080, "10.1.0.1", 80)], (NODE,))
    assert index.table().revision == before
    index.set_host_ports("u2", [HostPort("", "TCP", 8080, "not an address", 80)], (NODE,))
    assert index.table().revision == before


def test_a_pod_that_is_gone_leaves_its_host_ports_to_the_next() -> None:
    index = build_index([])
    empty = index.table().revision
    index.set_host_ports("u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80)], (NODE,))
    index.set_host_ports("u2", [HostPort("", "TCP", 8080, "10.1.0.2", 80)], (NODE,))
    assert read(index.table(), NODE, 8080).endpoints == ["10.1.0.1 . 80"]  # the API does not let it come to this
    index.set_host_ports("u1", [], (NODE,))
    assert read(index.table(), NODE, 8080).endpoints == ["10.1.0.2 . 80"]
    index.set_host_ports("u2", [], (NODE,))
    assert index.table().revision == empty


def test_a_service_at_the_same_address_and_port_goes_first_whichever_came_first() -> None:
    service = make_service("a", "10.96.0.2", externalIPs=[NODE], ports=[make_port(8080)])
    for early in (True, False):
        index = ServiceIndex("n1", (NODE,))
        if early:
            index.set_host_ports("u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80)], (NODE,))
            index.table()
        index.apply_service(service)
        index.apply_slice(make_slice("a", make_endpoint("10.1.0.9")))
        index.set_host_ports("u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80)], (NODE,))
        assert read(index.table(), NODE, 8080).endpoints == ["10.1.0.9 . 8080"]
        index.remove_service("default", "a")
        assert read(index.table(), NODE, 8080).endpoints == ["10.1.0.1 . 80"]


def test_host_ports_of_another_nodes_pods_are_at_that_nodes_address() -> None:
    index = build_index([])
    index.set_host_ports("u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80)], ("10.255.0.2",), node="n2")
    assert read(index.table(), "10.255.0.2", 8080).endpoints == ["10.1.0.1 . 80"]
    assert read(index.table(), NODE, 8080).verdict == "nothing"
    assert at_loopback(index) == set()


def test_a_host_port_is_at_the_loopback_addresses_that_its_host_ip_means() -> None:
    for host_ip, expected in (("", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.5", "127.0.0.5")):
        index = build_index([])
        index.set_host_ports("u1", [HostPort(host_ip, "TCP", 8080, "10.1.0.1", 80)], (NODE,))
        assert at_loopback(index) == {(f"{expected} . 6 . 8080", "goto external4-1")}
    for host_ip, target in ((NODE, "10.1.0.1"), ("10.255.0.9", "10.1.0.1"), ("", "fd00:1::1"), ("x", "10.1.0.1")):
        index = build_index([])
        index.set_host_ports("u1", [HostPort(host_ip, "TCP", 8080, target, 80)], (NODE,))
        assert at_loopback(index) == set()


def test_rules_for_loopback_addresses_are_on_instances_alone() -> None:
    table = build_index([]).table()
    rules = {
        flag: [line for line in render_table(table, Vantage(is_instance=flag)).splitlines() if " rule " in line]
        for flag in (False, True)
    }
    assert not [rule for rule in rules[False] if "loopback" in rule or "127.0.0.0/8" in rule or "node-ips" in rule]
    assert [rule for rule in rules[True] if "127.0.0.0/8 drop" in rule]


def at_loopback(index: ServiceIndex) -> set[tuple[str, str]]:
    return {(item.key, item.value) for item in index.table().elements() if item.container == "loopback-ips4"}


def test_changes_of_host_ports_are_differences_like_others() -> None:
    index = build_index([make_service("a", "10.96.0.2")])
    before = index.table("z")
    applied = AppliedTable()
    applied.apply({"base": "", "text": render_table(before, Vantage())})
    index.set_host_ports("u1", [HostPort("", "TCP", 8080, "10.1.0.1", 80)], (NODE,))
    after = index.table("z")
    applied.apply({"base": before.revision, "text": render_delta(diff_tables(before, after))})
    assert applied.shows(after)


def test_a_reserved_port_of_a_node_is_taken_over_by_no_pod_and_no_service() -> None:
    """The kubelet's port: who had it would be sent what the API server says to the Node."""
    service = make_service("a", "10.96.0.2", externalIPs=[NODE], ports=[make_port(10250), make_port(80, name="web")])
    for early in (True, False):
        index = ServiceIndex("n1", (NODE,))
        if early:
            index.reserve((NODE,), 10250)
        index.set_host_ports("u1", [HostPort("", "TCP", 10250, "10.1.0.1", 80)], (NODE,))
        index.set_host_ports("u2", [HostPort("", "UDP", 10250, "10.1.0.2", 80)], (NODE,))
        index.apply_service(service)
        index.apply_slice(make_slice("a", make_endpoint("10.1.0.9")))
        if not early:
            assert read(index.table(), NODE, 10250).endpoints == ["10.1.0.9 . 8080"]
            index.reserve((NODE,), 10250)
        assert read(index.table(), NODE, 10250).verdict == "nothing"
        assert read(index.table(), NODE, 10250, "UDP").endpoints == ["10.1.0.2 . 80"]
        assert read(index.table(), "10.96.0.2", 10250).endpoints == ["10.1.0.9 . 8080"]
        assert at_loopback(index) == {
            ("127.0.0.1 . 6 . 10250", "goto external4-1"),
            ("127.0.0.1 . 17 . 10250", "goto external4-1"),
        }, "an instance's own loopback address is not the provider's"
