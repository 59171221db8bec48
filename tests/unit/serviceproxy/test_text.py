"""The nft text and the numbers in it."""

from __future__ import annotations

import copy
import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service_history import generate_history
from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from tests.unit.serviceproxy.reading import build_index
from vk_provider.serviceproxy.address import Family, parse_address, parse_network
from vk_provider.serviceproxy.affinity import TAG, AffinityNumbers, number_endpoints
from vk_provider.serviceproxy.chain import name_chain, write_chains
from vk_provider.serviceproxy.endpoint import Endpoint
from vk_provider.serviceproxy.nft import Vantage, render_delta, render_table, vantage_elements
from vk_provider.serviceproxy.table import diff_tables


def test_a_delta_deletes_the_revision_it_was_made_for_so_that_it_fails_on_any_other() -> None:
    index = build_index([make_service("a", "10.96.0.2")])
    before = index.table()
    index.apply_slice(make_slice("a", make_endpoint("10.1.0.1")))
    after = index.table()
    lines = render_delta(diff_tables(before, after)).splitlines()
    assert f"delete element inet vk-services revision {{ {before.revision} }}" in lines
    assert f"add element inet vk-services revision {{ {after.revision} }}" in lines


def test_a_delta_makes_the_chains_that_the_table_did_not_have() -> None:
    index = build_index([make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])])
    before = index.table()
    index.apply_slice(make_slice("a", make_endpoint("10.1.0.1")))
    text = render_delta(diff_tables(before, index.table()))
    for chain in ("cluster4-1", "nodeport-external4-1", "nodeport-cluster4-1"):
        assert f"add chain inet vk-services {chain}\n" in text


def test_no_text_depends_on_names_that_a_machine_would_have_to_know() -> None:
    """Protocols by number: /etc/protocols may be missing."""
    index = build_index([make_service("a", "10.96.0.2")], [make_slice("a", make_endpoint("10.1.0.1"))])
    words = render_table(index.table(), Vantage(("10.1.0.1",))).replace(",", " ").split()
    assert not {"tcp", "udp", "sctp", "http"} & set(words)


def test_what_is_not_known_is_dropped_after_every_table_has_had_the_chance_to_refuse_it() -> None:
    """Several tables may be in one network namespace: of Nodes that are told at different times, and of clusters with
    the same Service network. Which of two base chains of one priority comes first is the order in which they were made.
    """
    text = render_table(build_index([make_service("a", "10.96.0.2")]).table(), Vantage(), "vk-services_a_node-1")
    hooks = re.findall(
        r"^add chain inet \S+ (\S+) \{ type filter hook (\S+) priority (-?\d+) ; \}$", text, re.MULTILINE
    )
    rules: dict[str, list[str]] = {}
    for chain, rule in re.findall(r"^add rule inet \S+ (\S+) (.+)$", text, re.MULTILINE):
        rules.setdefault(chain, []).append(rule)

    def reached(chain: str) -> list[str]:
        texts = rules.get(chain, [])
        targets = re.findall(r"jump (\S+)", " ".join(texts))
        return texts + [rule for target in targets for rule in reached(target)]

    for hook in ("forward", "output"):
        chains = [(int(priority), reached(chain)) for chain, at, priority in hooks if at == hook]
        refuse = [at for at, texts in chains if any("reject" in rule or "no-endpoint" in rule for rule in texts)]
        drop = [at for at, texts in chains if any(re.search(r"@service-cidrs\d drop", rule) for rule in texts)]
        assert refuse and drop and max(refuse) < min(drop)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["; flush ruleset", "}"])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_no_value_of_an_object_gets_into_the_text_but_addresses_and_numbers(seed: int, data: st.DataObject) -> None:
    """Objects with values that no API server lets pass: no error, and nothing in the text that nft could read as more
    than an element."""
    (state,) = generate_history(seed, 1, 1)
    objects = copy.deepcopy([*state[0].values(), *state[1].values()])
    for _ in range(data.draw(st.integers(1, 6))):
        place, key = data.draw(st.sampled_from([leaf for item in objects for leaf in _leaves(item)]))
        place[key] = data.draw(LEAVES)
    index = build_index([item for item in objects if "spec" in item], [item for item in objects if "spec" not in item])
    for element in index.table("z1").elements():
        assert re.fullmatch(r"[0-9a-f.:/ x]+", element.key)
        assert re.fullmatch(r"drop|goto [a-z0-9-]+|[0-9a-f.:/ x]*", element.value)


def _leaves(item: object) -> list[tuple[dict, str]]:
    """(container, key) of every value in a JSON object that is no object and no list."""
    if isinstance(item, list):
        return [leaf for each in item for leaf in _leaves(each)]
    if not isinstance(item, dict):
        return []
    own = [(item, key) for key, value in item.items() if not isinstance(value, (dict, list)) and key != "kind"]
    return own + [leaf for value in item.values() for leaf in _leaves(value)]


def test_a_vantage_without_replies_masquerades_what_comes_from_outside_under_the_policy_local() -> None:
    table = build_index([]).table()
    mark = "add rule inet vk-services external-local4 meta mark set meta mark or 0x2000\n"
    assert mark in render_table(table, Vantage(sees_replies=False))
    assert mark not in render_table(table, Vantage())


def test_a_vantage_names_its_pods_and_the_addresses_of_node_ports() -> None:
    vantage = Vantage(("10.1.0.5", "10.2.0.0/24", "fd00::5", "x"), ("10.255.0.1", "127.0.0.1", "::1", "fd00::1"))
    assert {(item.container, item.key) for item in vantage_elements(vantage)} == {
        ("pods4", "10.1.0.5"),
        ("hairpin-connections4", "10.1.0.5 . 10.1.0.5"),
        ("pods4", "10.2.0.0/24"),
        ("pods6", "fd00::5"),
        ("hairpin-connections6", "fd00::5 . fd00::5"),
        ("nodeport-ips4", "10.255.0.1"),
        ("nodeport-ips6", "fd00::1"),
    }


def test_a_table_of_another_name_is_the_same_but_for_its_name() -> None:
    service = make_service("a", "10.96.0.2", type="NodePort", ports=[make_port(80, node_port=30080)])
    index = build_index([service])
    before = index.table()
    index.apply_slice(make_slice("a", make_endpoint("10.1.0.1")))
    table, vantage = index.table(), Vantage(("10.1.0.1",), ("10.255.0.1",))
    delta = diff_tables(before, table)
    for ours, named in (
        (render_table(table, vantage), render_table(table, vantage, "vk-node-1")),
        (render_delta(delta), render_delta(delta, "vk-node-1")),
    ):
        assert "vk-services" in ours
        assert ours.replace("inet vk-services", "inet vk-node-1") == named


def test_a_name_that_is_no_counted_chain_is_an_error() -> None:
    with pytest.raises(ValueError):
        write_chains(frozenset({"services"}), "vk-services")
    assert name_chain("nodeport-", "local", 6, 2, 0) == "nodeport-local6-2"


def test_affinity_numbers_are_the_same_after_a_restart_and_distinct_when_hashes_collide() -> None:
    numbers = AffinityNumbers()
    first = numbers.claim("a/b/web/6")
    assert first == numbers.claim("a/b/web/6") == AffinityNumbers().claim("a/b/web/6")
    assert first & 0xFF000000 == TAG
    colliding = next(
        name for n in range(1 << 26) if zlib.crc32((name := f"x{n}").encode()) % (1 << 24) == first % (1 << 24)
    )
    assert numbers.claim(colliding) == first + 1
    numbers.release("a/b/web/6")
    assert numbers.claim("a/b/web/6") == first


def test_endpoints_of_one_port_have_distinct_numbers_even_when_their_hashes_collide() -> None:
    by_hash: dict[int, str] = {}
    for number in range(1 << 20):
        address = f"10.{number * 7919 >> 16 & 255}.{number * 7919 >> 8 & 255}.{number * 104729 & 255}"
        other = by_hash.setdefault(zlib.crc32(f"{address} . 80".encode()) % (1 << 24), address)
        if other != address:
            break
    numbers = number_endpoints(Endpoint(item, 80, "", True, True, False) for item in (address, other))
    assert len(set(numbers.values())) == 2


@pytest.mark.parametrize(
    "written, expected",
    [
        ("10.0.0.1", (Family.IPV4, "10.0.0.1")),
        ("010.000.0.01", (Family.IPV4, "10.0.0.1")),
        ("FD00:0::1", (Family.IPV6, "fd00::1")),
        ("::ffff:10.0.0.1", (Family.IPV4, "10.0.0.1")),
        ("fe80::1%eth0", None),
        ("10.0.0", None),
        ("10..0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses_are_canonical(written: object, expected: object) -> None:
    assert parse_address(written) == expected


@pytest.mark.parametrize(
    "written, expected",
    [
        (" 10.1.2.3/8 ", "10.0.0.0/8"),
        ("fd00::1/64", "fd00::/64"),
        ("::5/64", "::/64"),
        ("10.0.0.0", None),
        ("10.0.0.0/33", None),
        ("10.0.0.0/-1", None),
        ("10.0.0.0/255.0.0.0", None),
        ("::ffff:10.0.0.0/104", None),
    ],
)
def test_networks_lose_padding_and_host_bits(written: str, expected: str | None) -> None:
    found = parse_network(written)
    assert (found and str(found)) == expected
