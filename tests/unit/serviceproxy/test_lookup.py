"""Where a connection of a pod goes by the compiled table."""

from __future__ import annotations

import pytest

from tests.service_history import generate_history
from tests.service_objects import NODE4, make_endpoint, make_port, make_service, make_slice
from tests.unit.serviceproxy.reading import NUMBERS, build_index, read
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.lookup import Destination, Route, TableView
from vk_provider.serviceproxy.table import Table

POD, POD6 = "10.1.0.77", "fd00:1::77"
WORDS = {"refused": "refused", "dropped": "dropped", "nothing": "direct"}


def ask(table: Table, address: str, port: int = 80, protocol: str = "TCP", source: str = POD) -> Route:
    family = Family.IPV6 if ":" in address else Family.IPV4
    return TableView(table, (source,), (NODE4,)).route(Frontend(family, address, NUMBERS[protocol], port))


def compile_table(*objects: Json, cidrs: tuple[str, ...] = ()) -> Table:
    index = build_index([item for item in objects if item["kind"] == "Service"])
    for item in objects:
        if item["kind"] == "EndpointSlice":
            index.apply_slice(item)
    index.set_service_cidrs(cidrs)
    return index.table("z1")


@pytest.mark.parametrize("seed", range(25))
def test_every_frontend_of_random_services_goes_where_the_rules_say(seed: int) -> None:
    asked = 0
    for services, slices in generate_history(seed, 0, 6):
        table = build_index(services.values(), slices.values()).table("z1")
        for service in services.values():
            for address, port, protocol, node_port in list_frontends(service):
                reading = read(
                    table, "6" if node_port and ":" in address else "" if node_port else address, port, protocol
                )
                route = ask(table, address, port, protocol, POD6 if ":" in address else POD)
                asked += 1
                if route.cause == "source-ranges":
                    assert service["spec"]["loadBalancerSourceRanges"]
                elif route.cause == "no-such-port":
                    assert reading.verdict == "nothing"
                elif reading.verdict in WORDS:
                    assert route.outcome == WORDS[reading.verdict], (address, port, route, reading)
                else:
                    assert route.outcome == "chosen"
                    assert [f"{each.address} . {each.port}" for each in route.endpoints] == reading.endpoints
                    assert route.is_masqueraded == (reading.verdict == "external")
                    assert route.affinity_s == reading.affinity_s
    assert asked > 20


def list_frontends(service: Json) -> list[tuple[str, int, str, bool]]:
    spec = service["spec"]
    addresses = [*(spec.get("clusterIPs") or []), *(spec.get("externalIPs") or [])]
    addresses += [
        item["ip"] for item in (service["status"].get("loadBalancer") or {}).get("ingress", []) if "ip" in item
    ]
    found = []
    for port in spec["ports"]:
        found += [(address, port["port"], port["protocol"], False) for address in addresses if address != "None"]
        if port.get("nodePort"):
            found.append((NODE4, port["nodePort"], port["protocol"], True))
    return found


def test_an_address_of_nobody_is_left_alone_and_one_of_the_service_network_gets_no_answer() -> None:
    table = compile_table(cidrs=("10.96.0.0/16",))
    assert ask(table, "192.0.2.1") == Route("direct")
    assert ask(table, "10.96.1.1") == Route("dropped", "", "no-such-service")


def test_a_port_that_the_service_does_not_have_is_refused_in_its_name() -> None:
    table = compile_table(make_service("a", "10.96.0.2"), make_slice("a", make_endpoint("10.1.0.1")))
    assert ask(table, "10.96.0.2", 81) == Route("refused", "default/a", "no-such-port")
    assert ask(table, "10.96.0.2", 80, "UDP") == Route("refused", "default/a", "no-such-port")


def test_a_service_without_usable_endpoints_refuses_or_drops() -> None:
    local = make_service("near", "10.96.0.3", internalTrafficPolicy="Local")
    table = compile_table(
        make_service("none", "10.96.0.2"), local, make_slice("near", make_endpoint("10.1.128.1", node="n2"))
    )
    assert ask(table, "10.96.0.2") == Route("refused", "default/none", "no-endpoints")
    assert ask(table, "10.96.0.3") == Route("dropped", "default/near", "endpoints-elsewhere")


def test_source_ranges_keep_out_whom_they_do_not_name() -> None:
    ranged = {
        "type": "LoadBalancer",
        "loadBalancerSourceRanges": ["10.1.0.0/17"],
        "ports": [make_port(80, node_port=30080)],
    }
    service = make_service("lb", "10.96.0.2", ingress=[{"ip": "203.0.113.1"}], **ranged)
    table = compile_table(service, make_slice("lb", make_endpoint("10.1.0.1")))
    assert ask(table, "203.0.113.1").outcome == "chosen"
    assert ask(table, "203.0.113.1", source="192.0.2.1") == Route("dropped", "default/lb", "source-ranges")
    assert ask(table, "10.96.0.2", source="192.0.2.1").outcome == "chosen"


def test_a_node_port_is_one_at_the_nodes_address_alone() -> None:
    service = make_service("np", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
    table = compile_table(service, make_slice("np", make_endpoint("10.1.0.1")))
    assert ask(table, NODE4, 30080) == Route("chosen", "default/np", "", (Destination("10.1.0.1", 8080),), True)
    assert ask(table, "192.0.2.1", 30080) == Route("direct")
    empty = compile_table(service)
    assert ask(empty, NODE4, 30080) == Route("refused", "default/np", "no-endpoints")


def test_a_host_port_leads_to_its_pod() -> None:
    index = build_index([])
    index.set_host_ports("uid-1", [HostPort("", "TCP", 8443, "10.1.0.5", 443)], (NODE4,))
    assert ask(index.table(), NODE4, 8443) == Route(
        "chosen", "host ports of uid-1", "", (Destination("10.1.0.5", 443),)
    )


def test_an_endpoint_that_is_itself_a_services_address_is_refused() -> None:
    table = compile_table(
        make_service("outer", "10.96.0.2"),
        make_service("inner", "10.96.0.3"),
        make_slice("outer", make_endpoint("10.96.0.3")),
        make_slice("inner", make_endpoint("10.1.0.1")),
    )
    assert ask(table, "10.96.0.2") == Route("refused", "default/inner", "no-such-port")
