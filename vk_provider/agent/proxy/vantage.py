"""What an instance adds to a whole table of Services: its pod, and where it answers node ports."""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.agent.facts import InstanceFacts
from vk_provider.serviceproxy.nft import Vantage, vantage_elements, write_elements


def write_vantage(facts: InstanceFacts, node_addresses: Sequence[str]) -> str:
    """nft commands for the transaction of the whole table."""
    vantage = Vantage(pods=(facts.pod_ip,), nodeport_addresses=(*node_addresses, facts.primary_ip))
    return "".join(f"{command}\n" for command in write_elements("add", vantage_elements(vantage)))
