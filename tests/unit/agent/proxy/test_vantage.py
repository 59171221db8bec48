"""What an instance adds to a whole table."""

from __future__ import annotations

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.proxy.vantage import write_host_network, write_vantage

NODE4, NODE6 = "10.255.0.1", "fd00::1"
OWN4, OWN6 = "10.1.0.1", "fd00::8"
DUAL = InstanceFacts("i-1", OWN4, "10.1.0.2", "t.small", "z1", "ip-10-1-0-1", OWN6, "fd00::9")


def lines(text: str, container: str) -> list[str]:
    return [line.partition("{ ")[2].removesuffix(" }") for line in text.splitlines() if f" {container} " in line]


def test_no_address_of_the_instance_is_taken_for_the_nodes() -> None:
    for addresses, ours4, ours6 in (([NODE4], [NODE4], []), ([NODE4, NODE6, OWN6], [NODE4], [NODE6])):
        for text in (
            write_vantage(DUAL, addresses, has_host_network=True),
            write_host_network(DUAL, addresses),
        ):
            assert (lines(text, "node-ips4"), lines(text, "node-ips6")) == (ours4, ours6)
            assert lines(text, "loopback-nets4") == ["127.0.0.0/8"]


def test_node_ports_are_answered_at_the_instances_addresses_of_both_families() -> None:
    text = write_vantage(DUAL, [NODE4, NODE6], has_host_network=False)
    assert lines(text, "nodeport-ips4") == [f"{NODE4}, {OWN4}"]
    assert lines(text, "nodeport-ips6") == [f"{NODE6}, {OWN6}"]
    assert lines(text, "node-ips4") == lines(text, "loopback-nets4") == []
