"""What the provider's own machine gets of the cluster's network, by what the cloud says of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
from prometheus_client import CollectorRegistry

from vk_provider.cloud.local.settings import LocalCloudSettings
from vk_provider.networking import Networking
from vk_provider.routing.machine import MachineTable, name_table
from vk_provider.routing.service import ServiceRouting
from vk_provider.serviceproxy.hostport import HostPort
from vk_provider.settings import CloudSettings, NodeSettings

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"
LOCAL = CloudSettings(own=LocalCloudSettings(name="mine"), owner="us")
SIMULATED = CloudSettings("simulated", "us")


def table_of(
    cloud: CloudSettings, address: str = HERE, services_here: Literal["auto", "on", "off"] = "auto"
) -> MachineTable | None:
    nothing: Any = SimpleNamespace(follow=lambda *_: None)
    routing = ServiceRouting(nothing, nothing, CollectorRegistry())
    node = NodeSettings("n", services_here=services_here)
    networking = Networking(cloud, nothing, routing, CollectorRegistry(), nothing)
    networking.add_node(node, [address])
    return networking._machine_tables.get("n")


@pytest.mark.parametrize(
    ("cloud", "address", "services_here", "has_one"),
    [
        (LOCAL, HERE, "auto", True),
        (LOCAL, ELSEWHERE, "auto", False),
        (LOCAL, ELSEWHERE, "on", True),
        (LOCAL, HERE, "off", False),
        (SIMULATED, HERE, "auto", False),
        (SIMULATED, HERE, "on", True),
    ],
)
def test_services_are_translated_here_where_packets_come_and_go(
    cloud: CloudSettings, address: str, services_here: Literal["auto", "on", "off"], has_one: bool
) -> None:
    assert (table_of(cloud, address, services_here) is not None) is has_one


def test_only_the_gateway_of_the_instances_sees_replies_and_its_table_goes_with_their_network() -> None:
    table = table_of(LOCAL)
    assert table is not None and table._vantage.sees_replies
    assert table._nft.name == name_table("mine", "n"), "`local-cloud down` removes it by the name of the cloud"
    table = table_of(SIMULATED, services_here="on")
    assert table is not None and not table._vantage.sees_replies
    assert table._nft.name == name_table("us", "n")


def test_the_kubelet_port_of_a_node_is_no_pods() -> None:
    nothing: Any = SimpleNamespace(follow=lambda *_: None)
    routing = ServiceRouting(nothing, nothing, CollectorRegistry())
    networking = Networking(SIMULATED, nothing, routing, CollectorRegistry(), nothing)
    networking.add_node(NodeSettings("n", port=10999), [HERE])
    networking.set_host_ports("n", "u1", (HostPort("", "TCP", 10999, "10.1.0.1", 80),))
    compiler = networking._routing.compiler
    assert compiler._kubelets == [((HERE,), 10999)]
