"""Policies applied by the real nft: what is not said by addresses and ports alone."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress

import pytest

from tests.integration.netpolicy.ours import PODS, OurPolicies
from tests.integration.serviceproxy.bed import Bed, kinds
from tests.integration.serviceproxy.clients import IP_FREEBIND, IPV6_FREEBIND, Attempt
from tests.integration.serviceproxy.ours import OurProxy
from tests.integration.serviceproxy.sctp import make_init
from tests.policy_worlds import SUBJECT, SUBJECT4, SUBJECT6, World, generate_history, make_pod, make_policy
from tests.service_objects import HOST_PORT, NODE4, NODE6, make_endpoint, make_service, make_slice
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.nft import TABLE, render_delta, render_pod, render_table
from vk_provider.netpolicy.table import diff_tables
from vk_provider.serviceproxy.nft import REMOVE as REMOVE_SERVICES

pytestmark = pytest.mark.real

SO_RCVBUFFORCE = 33
PEER, OTHER, PEER6 = "10.1.128.1", "10.1.128.2", "fd00:2::1"
DENY = make_policy("deny", policyTypes=["Ingress", "Egress"])


@pytest.fixture
def policies(bed: Bed) -> OurPolicies:
    bed.nft(REMOVE_SERVICES)
    return OurPolicies(bed)


def make_world(*policies: Json) -> World:
    pods = {
        SUBJECT: make_pod(SUBJECT, "a", {"app": "web"}, SUBJECT4, SUBJECT6),
        "peer": make_pod("peer", "a", {"app": "db"}, PEER, PEER6),
        "other": make_pod("other", "a", {"app": "other"}, OTHER),
    }
    return World({"a": {}}, pods, {f"a/{item['metadata']['name']}": item for item in policies})


def ask(policies: OurPolicies, source: str, target: str, port: int = 8080, protocol: str = "TCP") -> str:
    (kind,) = kinds(policies.bed.connect([Attempt(source, protocol, target, port)], 1.0))
    return kind


def to(selector: Json, port: int, protocol: str = "TCP") -> Json:
    return {"to": [{"podSelector": selector}], "ports": [{"port": port, "protocol": protocol}]}


def test_established_connections_go_on_and_new_ones_are_denied(policies: OurPolicies) -> None:
    policies.set(make_world())
    bed = policies.bed
    flows = []
    for source, target in ((PEER, SUBJECT4), (SUBJECT4, PEER)):
        flow = bed.socket(bed.world, socket.AF_INET, socket.SOCK_DGRAM)
        flow.setsockopt(socket.IPPROTO_IP, 15, 1)
        flow.settimeout(2)
        flow.bind((source, 0))
        flow.connect((target, 8080))
        flow.send(b"?")
        assert flow.recv(100)
        flows.append(flow)
    policies.set(make_world(DENY))
    assert ask(policies, PEER, SUBJECT4) == ask(policies, SUBJECT4, PEER) == "dropped"
    for flow in flows:
        flow.send(b"?")
        assert flow.recv(100)
        flow.close()


def test_the_instance_reaches_its_pod_and_the_pod_its_instance_whatever_is_denied(policies: OurPolicies) -> None:
    policies.set(make_world(DENY))
    for subject, node in ((SUBJECT4, NODE4), (SUBJECT6, NODE6)):
        assert ask(policies, "", subject) == "answered"
        assert ask(policies, subject, node, HOST_PORT) == "answered"


def test_a_pod_reaches_itself_through_a_service_whatever_is_denied(policies: OurPolicies) -> None:
    proxy = OurProxy(policies.bed)
    for family, ip, address in (("IPv4", "10.96.0.2", SUBJECT4), ("IPv6", "fd00:96::2", SUBJECT6)):
        proxy.set_service(f"default/{family}", make_service(family, ip))
        proxy.set_slice(f"default/{family}-x", make_slice(family, make_endpoint(address), family=family))
    proxy.apply()
    policies.set(make_world(DENY))
    for subject, ip in ((SUBJECT4, "10.96.0.2"), (SUBJECT6, "fd00:96::2")):
        assert ask(policies, subject, ip, 80) == "answered"
    assert ask(policies, PEER, "10.96.0.2", 80) == "dropped"


def test_egress_to_a_service_is_judged_by_the_pod_that_answers_and_its_port(policies: OurPolicies) -> None:
    proxy = OurProxy(policies.bed)
    for name, ip, pod in (("db", "10.96.0.2", PEER), ("other", "10.96.0.3", OTHER)):
        proxy.set_service(f"default/{name}", make_service(name, ip))
        proxy.set_slice(f"default/{name}-x", make_slice(name, make_endpoint(pod, "n2")))
    proxy.apply()
    policies.set(make_world(DENY, make_policy("db", egress=[to({"matchLabels": {"app": "db"}}, 8080)])))
    assert (ask(policies, SUBJECT4, "10.96.0.2", 80), ask(policies, SUBJECT4, "10.96.0.3", 80)) == (
        "answered",
        "dropped",
    )
    policies.set(make_world(DENY, make_policy("db", egress=[to({"matchLabels": {"app": "db"}}, 80)])))
    assert ask(policies, SUBJECT4, "10.96.0.2", 80) == "dropped"
    services = {"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}
    policies.set(make_world(DENY, make_policy("db", egress=[services])))
    assert ask(policies, SUBJECT4, "10.96.0.2", 80) == "dropped"


def test_a_service_without_endpoints_refuses_under_a_policy_as_without(policies: OurPolicies) -> None:
    proxy = OurProxy(policies.bed)
    proxy.set_service("default/none", make_service("none", "10.96.0.4"))
    proxy.apply()
    policies.set(make_world(DENY))
    assert ask(policies, SUBJECT4, "10.96.0.4", 80) == "refused"


def test_errors_about_an_allowed_connection_come_back(policies: OurPolicies) -> None:
    policies.set(make_world(DENY, make_policy("udp", egress=[to({}, 9999, "UDP")])))
    assert ask(policies, SUBJECT4, PEER, 9999, "UDP") == "refused"  # ICMP: nobody is there


@pytest.mark.parametrize("peer, subject", [(PEER, SUBJECT4), (PEER6, SUBJECT6)])
def test_icmp_passes_where_a_rule_names_no_ports(policies: OurPolicies, peer: str, subject: str) -> None:
    db = [{"podSelector": {"matchLabels": {"app": "db"}}}]

    def ping(source: str, target: str) -> bool:
        return send_echo(policies.bed, source, target)

    policies.set(make_world())
    assert ping(peer, subject) and ping(subject, peer)
    policies.set(make_world(DENY))
    assert not ping(peer, subject) and not ping(subject, peer)
    policies.set(make_world(DENY, make_policy("all", ingress=[{"from": db}])))
    assert ping(peer, subject) and not ping(subject, peer)
    policies.set(make_world(DENY, make_policy("all", ingress=[{"from": db, "ports": [{"protocol": "UDP"}]}])))
    assert not ping(peer, subject)


def send_echo(bed: Bed, source: str, target: str) -> bool:
    """Whether an echo request arrives at the target. RFC 792, RFC 4443."""
    ipv6 = ":" in source
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    receiver, sender = (bed.socket(bed.world, family, socket.SOCK_RAW, protocol) for _ in range(2))
    with receiver, sender:
        level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if ipv6 else (socket.IPPROTO_IP, IP_FREEBIND)
        for made, address in ((receiver, target), (sender, source)):
            made.setsockopt(level, option, 1)
            made.bind((address, 0))
        receiver.settimeout(1)
        body = os.urandom(4)
        kind = 128 if ipv6 else 8
        checksum = 0 if ipv6 else 0xFFFF - sum(struct.unpack("!4H", bytes((kind, 0, 0, 0)) + body)) % 0xFFFF
        sender.sendto(struct.pack("!BBH", kind, 0, checksum) + body, (target, 0))
        with suppress(TimeoutError):
            while True:
                packet = receiver.recv(1000)
                if packet[0 if ipv6 else 20] == kind and packet.endswith(body):
                    return True
    return False


def test_sctp_is_told_from_other_protocols(policies: OurPolicies) -> None:
    """This kernel has no SCTP sockets, but its packets are judged: an INIT arrives, or not."""
    bed = policies.bed
    receiver = bed.socket(bed.world, socket.AF_INET, socket.SOCK_RAW, 132)
    sender = bed.socket(bed.world, socket.AF_INET, socket.SOCK_RAW, 132)
    sender.setsockopt(socket.IPPROTO_IP, 15, 1)
    sender.bind((PEER, 0))
    receiver.settimeout(1)
    arrived = []
    for number, protocol in enumerate(("SCTP", "TCP")):
        rule = {"ports": [{"port": 132, "protocol": protocol}]}
        policies.set(make_world(make_policy("in", ingress=[rule])))
        sender.sendto(make_init(40000 + number, 132), (SUBJECT4, 0))
        try:
            arrived.append(receiver.recv(1000)[20:22])
        except TimeoutError:
            arrived.append(b"")
    receiver.close()
    sender.close()
    assert arrived == [(40000).to_bytes(2, "big"), b""]


def test_no_packet_meets_half_a_table_while_whole_ones_are_applied(policies: OurPolicies) -> None:
    db = [{"podSelector": {"matchLabels": {"app": "db"}}}]
    policies.set(make_world(DENY, make_policy("db", ingress=[{"from": db}])))
    bed, table = policies.bed, policies.table
    assert table
    receiver, allowed, denied = (bed.socket(bed.world, socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
    for made, address, port in ((receiver, SUBJECT4, 9999), (allowed, PEER, 0), (denied, OTHER, 0)):
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.bind((address, port))
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)  # it is read at the end
    sent, arrived, ended = 0, Counter[str](), threading.Event()

    def send() -> None:
        nonlocal sent
        while not ended.wait(0.0005):
            for sender in (allowed, denied):
                sender.sendto(b"?", (SUBJECT4, 9999))
            sent += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for _ in range(20):
            bed.nft(render_table(table) + render_pod(PODS))
    finally:
        ended.set()
        thread.join()
    receiver.settimeout(0.3)
    with suppress(TimeoutError):
        while True:
            arrived[receiver.recvfrom(10)[1][0]] += 1
    for made in (receiver, allowed, denied):
        made.close()
    assert sent > 100
    assert arrived == {PEER: sent}


def test_a_delta_for_another_table_changes_nothing(policies: OurPolicies) -> None:
    policies.set(make_world(DENY))
    first = policies.table
    policies.set(make_world())
    second = policies.table
    policies.set(make_world(DENY))
    assert first and second
    before = policies.bed.run_node("nft", "list", "table", "inet", TABLE)
    with pytest.raises(AssertionError, match="revision"):
        policies.bed.nft(render_delta(diff_tables(second, first)))
    assert policies.bed.run_node("nft", "list", "table", "inet", TABLE) == before


def test_deltas_make_the_table_that_a_whole_one_makes(bed: Bed) -> None:
    for seed in range(4):
        policies = OurPolicies(bed)
        bed.nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        for world in generate_history(seed, 10):
            policies.set(world)
        assert policies.table
        changed = _listed(bed)
        bed.nft(render_table(policies.table) + render_pod(PODS))
        assert _listed(bed) == changed


def _listed(bed: Bed) -> list[str]:
    text = bed.run_node("nft", "list", "table", "inet", TABLE)
    lines = (line.strip().rstrip(",").removeprefix("elements = { ").removesuffix(" }") for line in text.splitlines())
    parts = (part for line in lines for part in ([line] if "counter" in line else line.split(", ")))
    return sorted(part.partition("counter packets")[0] for part in parts if part)
