"""Tables over time: deltas, revisions, contested addresses, zones."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service_history import Objects, generate_history
from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from tests.unit.serviceproxy.reading import build_index, contents, read
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import render_delta
from vk_provider.serviceproxy.table import Delta, diff_tables


def follow(index: ServiceIndex, before: Objects, after: Objects) -> None:
    for key in before[0].keys() | after[0].keys():
        if key in after[0]:
            index.apply_service(after[0][key])
        else:
            index.remove_service(*key.split("/"))
    for key in before[1].keys() | after[1].keys():
        if key in after[1]:
            index.apply_slice(after[1][key])
        else:
            index.remove_slice(*key.split("/"))


def apply(maps: dict[str, dict[str, str]], delta: Delta) -> None:
    """As the kernel does: what is removed must be there, what is added must not."""
    for element in delta.removed:
        assert element.key in maps[element.container], element
        del maps[element.container][element.key]
    for element in delta.added:
        assert maps.setdefault(element.container, {}).setdefault(element.key, element.value) == element.value, element


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_deltas_lead_to_the_table_that_the_last_state_alone_makes(seed: int) -> None:
    index, before = ServiceIndex("n1", ("10.255.0.1",)), ({}, {})
    table = index.table("z1")
    maps: dict[str, dict[str, str]] = {}
    for state in generate_history(seed, 1, 6):
        follow(index, before, state)
        now = index.table("z1")
        delta = diff_tables(table, now)
        apply(maps, delta)
        alone = build_index(state[0].values(), state[1].values()).table("z1")
        assert {name: found for name, found in maps.items() if found} == contents(alone)
        assert (now.revision, now.chains) == (alone.revision, alone.chains)
        assert (delta.base, delta.revision) == (table.revision, now.revision)
        before, table = state, now


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_objects_does_not_matter(seed: int) -> None:
    (state,) = generate_history(seed, 1, 1)
    items = [(True, item) for item in state[0].values()] + [(False, item) for item in state[1].values()]
    random.Random(seed).shuffle(items)
    index = ServiceIndex("n1", ("10.255.0.1",))
    for is_service, item in items:
        (index.apply_service if is_service else index.apply_slice)(item)
    assert contents(index.table()) == contents(build_index(state[0].values(), state[1].values()).table())


def test_one_changed_endpoint_of_many_services_is_a_delta_of_a_few_hundred_bytes() -> None:
    index = build_index(
        [make_service(f"s{n}", f"10.96.{n // 250}.{n % 250 + 1}") for n in range(500)],
        [make_slice(f"s{n}", make_endpoint("10.1.0.1"), make_endpoint("10.1.0.2")) for n in range(500)],
    )
    before = index.table()
    index.apply_slice(make_slice("s7", make_endpoint("10.1.0.1"), make_endpoint("10.1.0.3")))
    text = render_delta(diff_tables(before, index.table()))
    assert "10.1.0.3" in text
    assert len(text) < 400


def test_an_object_that_comes_again_unchanged_changes_nothing() -> None:
    service, endpoints = make_service("a", "10.96.0.2"), make_slice("a", make_endpoint("10.1.0.1"))
    index = build_index([service], [endpoints])
    before = index.table()
    index.apply_service(service | {"status": {"conditions": []}})
    index.apply_slice(endpoints)
    after = index.table()
    assert after.fragments["default/a"] is before.fragments["default/a"]
    assert after.revision == before.revision


def test_the_revision_is_of_the_content_and_returns_with_it() -> None:
    index = build_index([make_service("a", "10.96.0.2")])
    first = index.table().revision
    index.apply_service(make_service("b", "10.96.0.3"))
    second = index.table().revision
    index.remove_service("default", "b")
    assert index.table().revision == first != second
    index.set_service_cidrs(["10.96.0.0/16"])
    assert index.table().revision not in (first, second)


def test_zones_differ_in_the_services_with_hints_alone() -> None:
    hinted = make_slice("a", make_endpoint("10.1.0.1", zones=["z1"]), make_endpoint("10.1.0.2", zones=["z2"]))
    index = build_index(
        [make_service("a", "10.96.0.2"), make_service("b", "10.96.0.3")],
        [hinted, make_slice("b", make_endpoint("10.1.0.3"))],
    )
    one, two = index.table("z1"), index.table("z2")
    assert read(one, "10.96.0.2").endpoints == ["10.1.0.1 . 8080"]
    assert read(two, "10.96.0.2").endpoints == ["10.1.0.2 . 8080"]
    assert one.fragments["default/b"] is two.fragments["default/b"]


def test_an_external_address_never_takes_another_services_cluster_ip() -> None:
    thief = make_service("a", "10.96.0.2", externalIPs=["10.96.0.3"])
    owner = make_service("b", "10.96.0.3")
    slices = [make_slice("a", make_endpoint("10.1.0.1")), make_slice("b", make_endpoint("10.1.0.2"))]
    for order in ([thief, owner], [owner, thief]):
        assert read(build_index(order, slices).table(), "10.96.0.3").endpoints == ["10.1.0.2 . 8080"]


def test_of_two_services_with_one_external_address_the_older_has_it_and_the_other_inherits() -> None:
    old, young = (
        make_service(name, ip, externalIPs=["203.0.113.1"]) for name, ip in (("z", "10.96.0.2"), ("a", "10.96.0.3"))
    )
    old["metadata"]["creationTimestamp"], young["metadata"]["creationTimestamp"] = (
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
    )
    slices = [make_slice("z", make_endpoint("10.1.0.1")), make_slice("a", make_endpoint("10.1.0.2"))]
    index = build_index([young, old], slices)
    before = index.table()
    assert read(before, "203.0.113.1").endpoints == ["10.1.0.1 . 8080"]
    index.remove_service("default", "z")
    assert read(index.table(), "203.0.113.1").endpoints == ["10.1.0.2 . 8080"]
    index.apply_service(old)
    assert index.table().revision == before.revision


def test_a_slice_that_goes_over_to_another_service_leaves_the_first() -> None:
    moved = make_slice("a", make_endpoint("10.1.0.1"))
    index = build_index([make_service("a", "10.96.0.2"), make_service("b", "10.96.0.3")], [moved])
    index.table()
    moved["metadata"]["labels"] = {"kubernetes.io/service-name": "b"}
    index.apply_slice(moved)
    made = index.table()
    assert (read(made, "10.96.0.2").verdict, read(made, "10.96.0.3").verdict) == ("refused", "cluster")


def test_a_delta_names_the_udp_frontends_whose_serving_endpoints_changed() -> None:
    ports = [{"name": "", "protocol": "UDP", "port": 53}]
    service = make_service("dns", "10.96.0.10", ports=[make_port(53, "UDP")])
    index = build_index(
        [service, make_service("web", "10.96.0.2")],
        [make_slice("dns", make_endpoint("10.1.0.1"), make_endpoint("10.1.0.2"), ports=ports)],
    )
    before = index.table()
    index.apply_slice(make_slice("web", make_endpoint("10.1.0.9")))
    index.apply_slice(make_slice("dns", make_endpoint("10.1.0.2"), ports=ports))
    (changed,) = diff_tables(before, index.table()).udp
    assert (changed.frontend.address, changed.frontend.port, changed.serving) == ("10.96.0.10", 53, {"10.1.0.2 . 53"})


def test_a_flow_to_an_endpoint_that_terminates_and_serves_may_go_on() -> None:
    ports = [{"name": "", "protocol": "UDP", "port": 53}]
    going = make_endpoint("10.1.0.1", ready=False, serving=True, terminating=True)
    index = build_index([make_service("dns", "10.96.0.10", ports=[make_port(53, "UDP")])])
    index.apply_slice(make_slice("dns", going, make_endpoint("10.1.0.2"), ports=ports))
    (found,) = index.table().udp_frontends()
    assert found.serving == {"10.1.0.1 . 53", "10.1.0.2 . 53"}


def test_a_change_of_tcp_endpoints_asks_for_no_look_at_udp_flows() -> None:
    ports = [{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "web", "protocol": "TCP", "port": 80}]
    service = make_service("a", "10.96.0.2", ports=[make_port(53, "UDP", "dns"), make_port(80, "TCP", "web")])
    index = build_index([service], [make_slice("a", make_endpoint("10.1.0.1"), ports=ports)])
    before = index.table()
    index.apply_slice(make_slice("a", make_endpoint("10.1.0.2"), ports=ports[1:], suffix="y"))
    delta = diff_tables(before, index.table())
    assert delta.added and not delta.udp


def test_a_change_that_means_nothing_to_the_table_keeps_its_fragment() -> None:
    ports = [{"name": "", "protocol": "TCP", "port": 8080}]
    index = build_index([make_service("a", "10.96.0.2")], [make_slice("a", make_endpoint("10.1.0.1"), ports=ports)])
    before = index.table()
    unknown = [*ports, {"name": "metrics", "protocol": "TCP", "port": 9090}]
    index.apply_slice(make_slice("a", make_endpoint("10.1.0.1"), ports=unknown))
    assert index.table().fragments["default/a"] is before.fragments["default/a"]
