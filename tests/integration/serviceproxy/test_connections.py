"""Our tables applied by the real nft, and real connections through them."""

from __future__ import annotations

import re
import socket
import time

import pytest

from tests.integration.serviceproxy.bed import Bed, kinds
from tests.integration.serviceproxy.clients import Answer, Attempt
from tests.integration.serviceproxy.ours import LOCAL, VANTAGE, OurProxy
from tests.service_history import generate_history
from tests.service_objects import NODE4, NODE6, make_endpoint, make_port, make_service, make_slice
from vk_provider.serviceproxy.nft import REMOVE, Vantage, render_delta, render_table
from vk_provider.serviceproxy.table import diff_tables

pytestmark = pytest.mark.real

OUTSIDE, POD, ITSELF, NODE = "192.168.0.1", "10.1.64.1", "10.1.0.1", ""
HERE, FAR = make_endpoint("10.1.0.1"), make_endpoint("10.1.128.1", "n2")
UDP_PORTS = [{"name": "", "protocol": "UDP", "port": 8080}]


@pytest.fixture
def proxy(bed: Bed) -> OurProxy:
    bed.nft(REMOVE)
    return OurProxy(bed, "z1", ("10.96.0.0/16", "fd00:96::/112"))


def give(proxy: OurProxy, *objects: dict) -> None:
    for item in objects:
        key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        (proxy.set_service if item["kind"] == "Service" else proxy.set_slice)(key, item)
    proxy.apply()


def ask(
    proxy: OurProxy,
    source: str,
    target: str,
    port: int = 80,
    protocol: str = "TCP",
    times: int = 1,
    wait_s: float = 1.5,
) -> set[Answer]:
    return set(proxy.bed.connect([Attempt(source, protocol, target, port)] * times, wait_s))


@pytest.mark.parametrize("source", [OUTSIDE, POD, ITSELF, NODE])
def test_all_endpoints_of_a_cluster_ip_are_reached_from_everywhere(proxy: OurProxy, source: str) -> None:
    give(proxy, make_service("a", "10.96.0.2"), make_slice("a", HERE, FAR))
    assert {answer.endpoint for answer in ask(proxy, source, "10.96.0.2", times=40)} == {
        "10.1.0.1/8080",
        "10.1.128.1/8080",
    }


def test_pods_keep_their_source_and_what_must_come_back_here_does_not(proxy: OurProxy) -> None:
    service = make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
    give(proxy, service, make_slice("a", HERE))
    assert ask(proxy, POD, "10.96.0.2") == {Answer("answered", "10.1.0.1/8080", POD)}
    for source, target, port in ((OUTSIDE, "10.96.0.2", 80), (ITSELF, "10.96.0.2", 80), (POD, NODE4, 30080)):
        assert ask(proxy, source, target, port) == {Answer("answered", "10.1.0.1/8080", NODE4)}


def test_what_has_no_endpoint_is_refused_and_what_is_nobodys_is_dropped(proxy: OurProxy) -> None:
    give(proxy, make_service("a", "10.96.0.2", "fd00:96::2"))
    for source, target, port in (
        (OUTSIDE, "10.96.0.2", 80),
        (NODE, "10.96.0.2", 80),
        (POD, "10.96.0.2", 81),
        ("fd00:9::1", "fd00:96::2", 80),
    ):
        assert kinds(ask(proxy, source, target, port, wait_s=8)) == {"refused"}  # IPv6: on the second try, after 1 s
    assert kinds(ask(proxy, POD, "10.96.0.2", protocol="UDP", wait_s=8)) == {"refused"}
    assert kinds(ask(proxy, POD, "10.96.9.9")) == {"dropped"}


def test_the_policy_local_keeps_the_clients_address_and_never_leaves_the_node(proxy: OurProxy) -> None:
    ports = [make_port(80, node_port=30080)]
    give(
        proxy,
        make_service("a", "10.96.0.2", type="NodePort", externalTrafficPolicy="Local", ports=ports),
        make_slice("a", HERE, FAR),
    )
    assert ask(proxy, OUTSIDE, NODE4, 30080, times=20) == {Answer("answered", "10.1.0.1/8080", OUTSIDE)}
    assert len(ask(proxy, POD, NODE4, 30080, times=40)) == 2
    give(proxy, make_slice("a", FAR))
    assert kinds(ask(proxy, OUTSIDE, NODE4, 30080)) == {"dropped"}
    assert kinds(ask(proxy, NODE, NODE4, 30080)) == {"answered"}


def test_where_replies_do_not_pass_the_policy_local_masquerades(bed: Bed) -> None:
    bed.nft(REMOVE)
    proxy = OurProxy(bed, vantage=Vantage(LOCAL, (NODE4,), sees_replies=False))
    ports = [make_port(80, node_port=30080)]
    give(
        proxy,
        make_service("a", "10.96.0.2", type="NodePort", externalTrafficPolicy="Local", ports=ports),
        make_slice("a", HERE),
    )
    assert ask(proxy, OUTSIDE, NODE4, 30080) == {Answer("answered", "10.1.0.1/8080", NODE4)}


@pytest.mark.parametrize(
    "ip, node, client, pods",
    [
        ("10.96.0.2", NODE4, "192.168.0.{}", ("10.1.0.1", "10.1.128.1", "10.1.128.2")),
        ("fd00:96::2", NODE6, "fd00:9::{}", ("fd00:1::1", "fd00:2::1", "fd00:2::2")),
    ],
)
def test_a_client_stays_with_its_endpoint_on_every_frontend_until_that_goes(
    proxy: OurProxy, ip: str, node: str, client: str, pods: tuple[str, ...]
) -> None:
    family = "IPv6" if ":" in ip else "IPv4"
    ports = [make_port(80, node_port=30080)]
    give(
        proxy,
        make_service("a", ip, type="NodePort", sessionAffinity="ClientIP", ports=ports),
        make_slice("a", *(make_endpoint(pod) for pod in pods), family=family),
    )
    first: dict[str, str] = {}
    for number in range(1, 21):
        source = client.format(number)
        answers = ask(proxy, source, ip, times=4) | ask(proxy, source, node, 30080, times=2)
        (first[source],) = {answer.endpoint for answer in answers}
    assert len(set(first.values())) > 1
    gone = first[client.format(1)].partition("/")[0]
    proxy.set_slice("default/a-x", make_slice("a", *(make_endpoint(pod) for pod in pods if pod != gone), family=family))
    proxy.apply()
    proxy.bed.nft(render_table(proxy.table, VANTAGE))  # a whole table keeps the clients, too
    for source, endpoint in first.items():
        (now,) = {answer.endpoint for answer in ask(proxy, source, ip, times=4)}
        assert now == endpoint or endpoint == f"{gone}/8080" != now


def test_affinity_ends_with_its_timeout(proxy: OurProxy) -> None:
    service = make_service("a", "10.96.0.2", sessionAffinity="ClientIP")
    service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] = 1
    give(proxy, service, make_slice("a", *(make_endpoint(f"10.1.0.{n}") for n in (1, 2, 3))))
    seen = set()
    for _ in range(12):
        seen |= ask(proxy, OUTSIDE, "10.96.0.2")
        if len(seen) > 1:
            return
        time.sleep(1.3)
    pytest.fail(f"always {seen}")


def test_nothing_of_the_affinity_numbers_is_left_on_a_connection(proxy: OurProxy) -> None:
    give(proxy, make_service("a", "10.96.0.7", sessionAffinity="ClientIP"), make_slice("a", HERE))
    assert kinds(ask(proxy, OUTSIDE, "10.96.0.7")) == {"answered"}
    entries = [line for line in proxy.bed.run_node("conntrack", "-L").splitlines() if "dst=10.96.0.7" in line]
    assert entries and all("mark=0 " in entry for entry in entries)


def test_source_ranges_let_only_their_clients_to_the_load_balancers_address(proxy: OurProxy) -> None:
    service = make_service(
        "a",
        "10.96.0.2",
        type="LoadBalancer",
        ingress=[{"ip": "203.0.113.1"}],
        ports=[make_port(80, node_port=30080)],
        loadBalancerSourceRanges=["192.168.0.0/24", "192.168.3.0/24"],
    )
    give(proxy, service, make_slice("a", HERE))
    assert [kinds(ask(proxy, f"192.168.{n}.1", "203.0.113.1")) for n in (0, 3, 4)] == [{"answered"}] * 2 + [{"dropped"}]
    assert kinds(ask(proxy, "192.168.4.1", NODE4, 30080)) == {"answered"}
    service["spec"]["loadBalancerSourceRanges"] = ["192.168.0.0/16"]  # overlaps what it replaces
    give(proxy, service)
    assert kinds(ask(proxy, "192.168.4.1", "203.0.113.1")) == {"answered"}


def test_a_host_network_endpoint_is_reached_by_its_own_node(proxy: OurProxy) -> None:
    ports = [{"name": "", "protocol": "TCP", "port": 7000}]
    give(proxy, make_service("a", "10.96.0.2"), make_slice("a", make_endpoint(NODE4), ports=ports))
    for source in (NODE, POD, OUTSIDE):
        assert {answer.endpoint for answer in ask(proxy, source, "10.96.0.2")} == {f"{NODE4}/7000"}


def test_udp_flows_to_an_endpoint_that_went_are_forgotten_and_others_go_on(proxy: OurProxy) -> None:
    give(
        proxy,
        make_service("dns", "10.96.0.10", ports=[make_port(53, "UDP")]),
        make_slice("dns", HERE, FAR, ports=UDP_PORTS),
    )
    clients = {number: _udp_client(proxy.bed, 50000 + number) for number in range(12)}
    before = {number: _query(client, "10.96.0.10") for number, client in clients.items()}
    assert len(set(before.values())) == 2
    proxy.set_slice("default/dns-x", make_slice("dns", FAR, ports=UDP_PORTS))
    cleaning, proxy.clean = proxy.clean, lambda frontends: None
    text = proxy.apply()
    assert "10.1.0.1" not in text.split("add element")[-1]
    assert {
        number: _query(client, "10.96.0.10") for number, client in clients.items()
    } == before  # still, without cleaning
    cleaning(proxy.table.udp_frontends())
    after = {number: _query(client, "10.96.0.10") for number, client in clients.items()}
    assert set(after.values()) == {"10.1.128.1/8080"}
    for client in clients.values():
        client.close()


def _udp_client(bed: Bed, port: int) -> socket.socket:
    made = bed.socket(bed.world, socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, 15, 1)
    made.settimeout(2)
    made.bind((POD, port))
    return made


def _query(client: socket.socket, target: str) -> str:
    client.sendto(b"?", (target, 53))
    return client.recv(100).decode().partition(" ")[0]


@pytest.mark.parametrize(
    ("ip", "nobodys", "source", "pod"),
    [
        ("10.96.0.11", "10.96.9.9", OUTSIDE, "10.1.0.1"),
        ("fd00:96::b", "fd00:96::9:9", "fd00:9::1", "fd00:1::1"),
    ],
)
def test_sctp_is_translated_and_refused_as_the_others(
    proxy: OurProxy, ip: str, nobodys: str, source: str, pod: str
) -> None:
    """This kernel has no SCTP sockets, but its packets are translated: an INIT arrives at the endpoint."""
    ports = [{"name": "", "protocol": "SCTP", "port": 9999}]
    service = make_service("s", ip, ports=[make_port(132, "SCTP")])
    give(proxy, service, make_slice("s", make_endpoint(pod), ports=ports, family="IPv6" if ":" in ip else "IPv4"))
    for client in (source, NODE):
        (answer,) = ask(proxy, client, ip, 132, "SCTP")
        assert (answer.kind, answer.endpoint) == ("answered", f"{pod}/9999")
        # What a machine may not send fails at once there (EPERM).
        refusal = "refused" if client else "unreachable"
        assert kinds(ask(proxy, client, ip, 133, "SCTP", wait_s=8)) == {refusal}
    assert kinds(ask(proxy, source, nobodys, 132, "SCTP")) == {"dropped"}


def test_a_delta_for_another_table_changes_nothing(proxy: OurProxy) -> None:
    give(proxy, make_service("a", "10.96.0.2"))
    old = proxy.table
    give(proxy, make_slice("a", HERE))
    proxy.set_service("default/b", make_service("b", "10.96.0.3"))
    wrong = diff_tables(old, proxy.index.table("z1"))
    before = proxy.bed.run_node("nft", "list", "table", "inet", "vk-services")
    with pytest.raises(AssertionError, match="revision"):
        proxy.bed.nft(render_delta(wrong))
    assert proxy.bed.run_node("nft", "list", "table", "inet", "vk-services") == before
    assert proxy.revision() == proxy.table.revision


def test_deltas_over_a_history_make_the_table_that_a_whole_one_makes(proxy: OurProxy) -> None:
    for seed in range(4):
        before: tuple[dict, dict] = ({}, {})
        for services, slices in generate_history(seed, seed, 8):
            for known, now, put in ((before[0], services, proxy.set_service), (before[1], slices, proxy.set_slice)):
                for key in known.keys() | now.keys():
                    put(key, now.get(key))
            proxy.apply()
            before = services, slices
        changed = _listed(proxy.bed)
        assert proxy.revision() == proxy.table.revision
        proxy.bed.nft(render_table(proxy.table, VANTAGE))
        assert _listed(proxy.bed) == changed
        proxy.bed.nft(REMOVE)
        proxy.bed.nft(render_table(proxy.table, VANTAGE))
        assert _listed(proxy.bed) == changed


def _listed(bed: Bed) -> list[str]:
    """Elements in any order; chains that no verdict names any more may be left."""
    text = bed.run_node("nft", "list", "table", "inet", "vk-services")
    text = re.sub(r"\n\tchain (?:nodeport-)?(?:cluster|local|external)[46]-.*?\n\t}", "", text, flags=re.S)
    lines = (line.strip().rstrip(",").removeprefix("elements = { ").removesuffix(" }") for line in text.splitlines())
    return sorted(line for line in lines if line not in ("", "}"))


def test_removing_the_table_leaves_nothing(proxy: OurProxy) -> None:
    give(proxy, make_service("a", "10.96.0.2"), make_slice("a", HERE))
    proxy.bed.nft(REMOVE)
    assert proxy.bed.run_node("nft", "list", "ruleset").strip() == ""
