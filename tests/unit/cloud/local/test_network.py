"""What instances may send, the addresses that they have, and which subnets a machine cannot have."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from tests.unit.cloud.local.records import IPV6_SUBNET
from vk_provider.cloud.local import (
    ipv6,
    neighbour_guard,
    network,
    source_guard,
)
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.errors import BadStartError


def test_a_port_may_send_from_the_mac_and_the_two_addresses_that_its_name_stands_for() -> None:
    sources, announcers = source_guard.build_elements(["10.9.0.16"]).splitlines()
    mac = "02:56:0a:09:00:10"
    assert sources.partition("{")[2] == f" v0a090010 . {mac} . 10.9.0.16, v0a090010 . {mac} . 10.9.0.17 }}"
    assert announcers.partition("{")[2].count(f"v0a090010 . {mac} . {mac} . 10.9.0.1") == 2
    table = source_guard.build_table(["vold"])
    assert "policy drop" in table and 'iifname "vold" accept' in table


def test_an_instances_ipv6_addresses_have_the_places_of_its_ipv4_ones() -> None:
    assert ipv6.translate("10.9.0.0/16", IPV6_SUBNET, "10.9.1.2") == "fd00:9::102"
    assert ipv6.host_address(IPV6_SUBNET) == "fd00:9::1"
    assert ipv6.link_local("10.9.0.0/16", "10.9.1.2") == "fe80::102"


def test_a_port_may_solicit_and_advertise_its_own_addresses_at_its_own_mac() -> None:
    port = neighbour_guard.Ipv6Port("v0a090010", "02:56:0a:09:00:10", ("fd00:9::10", "fe80::10"))
    text = neighbour_guard.build_ipv6_elements("t", [port])
    targets = "{ 0xfd000009000000000000000000000010, 0xfe800000000000000000000000000010 }"
    advert = f"nd-neighbor-advert ip6 length 32 @th,192,64 0x020102560a090010 @th,64,128 {targets} accept"
    assert advert in text and "nd-neighbor-solicit ip6 length 32 @th,192,64 0x010102560a090010 accept" in text
    assert text.index("flush chain bridge t neighbours-v0a090010") < text.index("add rule")
    assert "v0a090010 . 02:56:0a:09:00:10 . fd00:9::10" in text


def test_ports_are_admitted_with_ipv6_where_the_cloud_has_it(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(source_guard, "run_command", lambda argv, text=None: ran.append(text or ""))
    source_guard.SourceGuard(config).admit("10.9.0.16")
    source_guard.SourceGuard(replace(config, ipv6_subnet=IPV6_SUBNET)).admit("10.9.0.16")
    assert "fd00:9::10" not in ran[0] and "fd00:9::11" in ran[1] and "fd00:9::3f" not in ran[1]


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("fd00::1/64", "host bits"),
        ("fd00::/97", "/96 or larger"),
        ("fe80::/64", "valid beyond one link"),
        ("ff00::/8", "valid beyond one link"),
    ],
)
def test_an_ipv6_subnet_that_is_none_is_a_bad_start(config: LocalCloudConfig, subnet: str, said: str) -> None:
    with pytest.raises(BadStartError, match="ipv6_subnet") as caught:
        replace(config, ipv6_subnet=subnet)
    assert said in str(caught.value)


def test_a_route_of_ipv6_that_overlaps_is_found() -> None:
    routes = [{"dst": "fd00::/64", "dev": "eth0"}, {"dst": "ff00::/8", "dev": "eth0", "type": "multicast"}]
    assert network.find_collision(ipaddress.IPv6Network(IPV6_SUBNET), routes, "vk-local") is None
    collision = network.find_collision(ipaddress.IPv6Network("fd00::/48"), routes, "vk-local")
    assert collision == "subnet fd00::/48 collides with the route fd00::/64 dev eth0"


def test_addresses_are_admitted_with_their_neighbours_once_and_never_beyond_the_subnet(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(source_guard, "run_command", lambda argv, text=None: ran.append(text or ""))
    guard = source_guard.SourceGuard(replace(config, subnet="10.9.0.0/23"))
    for address in ("10.9.0.16", "10.9.0.18", "10.9.1.14"):
        guard.admit(address)
    assert len(ran) == 1 and ran[0].count("10.9.1.14,") == 2
    guard.admit("10.9.1.16")
    assert len(ran) == 2 and "10.9.1.252" in ran[1] and "10.9.1.255" not in ran[1] and "10.9.2." not in ran[1]


def test_a_route_that_overlaps_the_subnet_is_found_but_not_our_own() -> None:
    subnet = ipaddress.IPv4Network("10.201.0.0/16")
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.201.0.0/16", "dev": "vk-local"}]
    assert network.find_collision(subnet, routes, "vk-local") is None
    assert "collides with the route 10.0.0.0/8 dev tun0" in str(
        network.find_collision(subnet, [*routes, {"dst": "10.0.0.0/8", "dev": "tun0"}], "vk-local")
    )
    assert network.find_collision(subnet, [{"dst": "10.201.7.1", "dev": "eth0"}], "vk-local")
