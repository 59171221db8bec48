"""Routing for the Node's address: what is there, and what is to be changed."""

from __future__ import annotations

import pytest

from vk_provider.agent.proxy.nodeaddress import Routing, RoutingError, build_batch, parse_routing

NODE = "10.255.0.1"
FRESH = '[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"}]'
DONE = (
    '[{"priority":96,"src":"all","dst":"10.255.0.1","fwmark":"0x1000","fwmask":"0x1000","table":"local"},'
    '{"priority":97,"src":"all","dst":"10.255.0.1","table":"main"},'
    '{"priority":100,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"}]'
)
ROUTE = '[{"type":"local","dst":"10.255.0.1","dev":"lo","protocol":"118","scope":"host","flags":[]}]'


def lines(addresses: list[str], known: Routing) -> list[str]:
    return build_batch(addresses, known).splitlines()


def test_rules_are_there_before_the_route_and_the_local_table_is_never_missing() -> None:
    assert lines([NODE], parse_routing(FRESH, "")) == [
        f"rule add pref 96 fwmark 0x1000/0x1000 to {NODE} lookup local",
        f"rule add pref 97 to {NODE} lookup main",
        "rule add pref 100 lookup local",
        "rule del pref 0 lookup local",
        f"route add local {NODE} dev lo table local proto 118",
    ]


def test_what_is_set_up_is_left_alone_and_what_was_begun_is_finished() -> None:
    assert lines([NODE], parse_routing(DONE, ROUTE)) == []
    assert lines([NODE], parse_routing(DONE, "[]")) == [f"route add local {NODE} dev lo table local proto 118"]


def test_an_address_that_is_not_the_nodes_any_more_goes_with_its_route_first() -> None:
    assert lines(["10.255.0.2"], parse_routing(DONE, ROUTE)) == [
        f"route del local {NODE} dev lo table local proto 118",
        f"rule del pref 96 fwmark 0x1000/0x1000 to {NODE} lookup local",
        f"rule del pref 97 to {NODE} lookup main",
        "rule add pref 96 fwmark 0x1000/0x1000 to 10.255.0.2 lookup local",
        "rule add pref 97 to 10.255.0.2 lookup main",
        "route add local 10.255.0.2 dev lo table local proto 118",
    ]
    assert lines([], parse_routing(FRESH, "[]")) == []


@pytest.mark.parametrize("printed", ["Object", "{}x", '{"priority":1}', '[{"src":"all"}]', "[7]"])
def test_what_ip_prints_otherwise_is_an_error_of_routing(printed: str) -> None:
    with pytest.raises(RoutingError):
        parse_routing(printed, "[]")
    with pytest.raises(RoutingError):
        parse_routing(FRESH, printed)
