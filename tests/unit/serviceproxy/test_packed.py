"""Packed elements say what the text says."""

from __future__ import annotations

import re
import struct

import pytest

from tests.service_history import generate_history
from tests.service_objects import NODE, NODE4, NODE6, make_endpoint, make_service, make_slice
from tests.unit.serviceproxy.reading import build_index
from vk_provider.serviceproxy.fragment import Element
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage, render_packed, render_table
from vk_provider.serviceproxy.packed import pack_elements, write_packed
from vk_provider.serviceproxy.table import Table

VANTAGE = Vantage(pods=("10.1.0.9", "fd00:1::9"), sees_replies=False, is_instance=True)
SETS = (
    "add table inet t\nadd set inet t places { type ipv4_addr . inet_service ; }\n"
    "add map inet t chains { type inet_service : verdict ; }\n"
    "add set inet t nets { type ipv4_addr ; flags interval ; }\n"
    "add map inet t clients { type mark : classid ; flags dynamic,timeout ; size 9 ; }\n"
    "add set inet t odd { type ether_addr ; }\n"
)


def make_table(seed: int) -> Table:
    """Of everything that a table can have."""
    index = ServiceIndex(NODE, (NODE4, NODE6))
    index.set_service_cidrs(["10.96.0.0/12", "fd00:96::/112"])
    index.set_host_ports("pod", [HostPort("", "TCP", 9000, "10.1.0.1", 80)], (NODE4,))
    for lane in range(6):
        services, slices = list(generate_history(seed, lane, 3))[-1]
        for item in services.values():
            index.apply_service(item)
        for item in slices.values():
            index.apply_slice(item)
    return index.table("z1")


def list_elements(text: str) -> list[tuple[str, str]]:
    found = re.findall(r"^add element inet vk-services (\S+) \{ (.*) \}$", text, re.MULTILINE)
    return sorted((container, element) for container, listed in found for element in listed.split(", "))


@pytest.mark.parametrize("seed", range(8))
def test_text_and_packed_elements_together_say_what_the_text_alone_says(seed: int) -> None:
    table = make_table(seed)
    whole = render_table(table, VANTAGE)
    text, bodies = render_packed(table, VANTAGE)
    assert list_elements(text + write_packed(text, bodies)) == list_elements(whole)
    others = [line for line in whole.splitlines() if not line.startswith("add element")]
    assert [line for line in text.splitlines() if not line.startswith("add element")] == others
    # What is left is of sets with intervals, and the revision.
    left = {container.rstrip("46") for container, _ in list_elements(text)}
    assert left <= {"pods", "hairpin-connections", "firewall-sources", "service-cidrs", "revision"}


def test_each_body_is_of_one_set_and_no_longer_than_an_attribute_may_be() -> None:
    services = [make_service(f"s{n}", f"10.96.{n >> 8}.{n & 255}") for n in range(1, 4001)]
    slices = [make_slice(f"s{n}", make_endpoint(f"10.1.{n >> 8}.{n & 255}")) for n in range(1, 4001)]
    _, bodies = render_packed(build_index(services, slices).table(), VANTAGE)
    assert len(bodies) > 5 and max(map(len, bodies)) < 1 << 16
    assert all(len(body) % 4 == 0 for body in bodies)


def test_what_is_of_no_plain_type_stays_text() -> None:
    known = [Element("places", "10.0.0.1 . 80"), Element("chains", "80", "goto a-1"), Element("chains", "81", "drop")]
    others = [
        Element("nets", "10.0.0.0/8"),
        Element("clients", "0x1", "0:1"),
        Element("odd", "02:00:00:00:00:01"),
        Element("missing", "1"),
        Element("places", "10.0.0.1 . http"),
        Element("places", "10.0.0.256 . 80"),
        Element("places", "10.0.0 . 80"),
        Element("places", "10.0.0.1 . 70000"),
        Element("places", "10.0.0.1"),
        Element("chains", "82", "masquerade"),
    ]
    bodies, left = pack_elements(SETS, [*known, *others])
    assert left == others
    assert write_packed(SETS, bodies).splitlines() == [
        "add element inet t places { 10.0.0.1 . 80 }",
        "add element inet t chains { 80 : goto a-1, 81 : drop }",
    ]


@pytest.mark.parametrize("damage", [lambda body: body[:-8], lambda body: body[4:], lambda body: b"\0" * 24])
def test_a_body_of_another_form_is_refused(damage: object) -> None:
    bodies, _ = pack_elements(SETS, [Element("places", "10.0.0.1 . 80")])
    assert callable(damage)
    with pytest.raises(ValueError, match="packed elements"):
        write_packed(SETS, [damage(bodies[0])])
    with pytest.raises(ValueError, match="packed elements"):
        write_packed(SETS.replace(" places ", " others "), bodies)


def test_an_element_is_as_the_kernel_reads_it() -> None:
    """Numbers as linux/netfilter/nf_tables.h has them."""
    (body,), _ = pack_elements(SETS, [Element("chains", "80", "goto a-1")])
    name = struct.pack("<HH", 11, 2) + b"chains\0\0"
    key = struct.pack("<HHHH", 12, 0x8001, 6, 1) + b"\0\x50\0\0"
    verdict = struct.pack("<HH", 8, 1) + struct.pack("!i", -4) + struct.pack("<HH", 8, 2) + b"a-1\0"
    value = struct.pack("<HHHH", 24, 0x8002, 20, 0x8002) + verdict
    element = struct.pack("<HH", 4 + 12 + 24, 0x8001) + key + value
    assert body == name + struct.pack("<HH", 4 + len(element), 0x8003) + element
