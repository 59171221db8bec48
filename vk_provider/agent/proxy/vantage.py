"""What an instance adds to a whole table of Services: its pod, its own address, and where it answers node ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vk_provider.agent.facts import InstanceFacts
from vk_provider.serviceproxy.fragment import Element
from vk_provider.serviceproxy.nft import Vantage, vantage_elements, write_elements


def write_vantage(facts: InstanceFacts, node_addresses: Sequence[str], *, has_host_network: bool) -> str:
    """nft commands for the transaction of the whole table.

    has_host_network: the pod is in the instance's own network namespace. Without it that has processes of ours alone,
                      whose own connections no pod's host port must lead elsewhere
    """
    return _write(vantage_elements(_vantage(facts, node_addresses, has_host_network)))


def write_host_network(facts: InstanceFacts, node_addresses: Sequence[str]) -> str:
    """What a table without it has to get, or has already. (What it has of the rest cannot be added twice in one
    transaction: nft refuses that for sets that merge intervals.)"""
    known = set(vantage_elements(_vantage(facts, node_addresses, False)))
    wanted = vantage_elements(_vantage(facts, node_addresses, True))
    return _write(element for element in wanted if element not in known)


def _vantage(facts: InstanceFacts, node_addresses: Sequence[str], has_host_network: bool) -> Vantage:
    return Vantage(
        pods=facts.pod_ips,
        nodeport_addresses=(*node_addresses, *facts.host_ips),
        own_addresses=facts.host_ips if has_host_network else (),
    )


def _write(elements: Iterable[Element]) -> str:
    return "".join(f"{command}\n" for command in write_elements("add", elements))
