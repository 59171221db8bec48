"""Records and boot specifications of instances, made up."""

from __future__ import annotations

from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.boot import BootSpec, BridgeNetwork
from vk_provider.cloud.local.store import InstanceRecord

IPV6_SUBNET = "fd00:9::/64"


IPV6_ADDRESSES = Addresses("10.9.0.16", "10.9.0.17", IPV6_SUBNET, "fd00:9::10", "fd00:9::11")
TEMPLATE = BootSpec(
    instance_id="",
    hostname="",
    directory="",
    layer="/layer",
    binds=("/x",),
    hidden=("/x/y",),
    images="/images",
    addresses=Addresses("", ""),
    network=BridgeNetwork("10.9.0.0/16", "10.9.0.1", "/run/netns/n", "br0"),
    cgroup={},
    cpu_milli=0,
    boot_credit_s=1.0,
    containerd=("c",),
    agent=("python", "agent"),
    environment={"A": "b"},
)
"""What all instances share of a boot specification."""


def record(instance_id: str = "i-1", primary: str = "10.9.0.16", pod: str = "10.9.0.17") -> InstanceRecord:
    addresses = Addresses(primary, pod)
    return InstanceRecord(instance_id, "t", "l1.small", "a", "spot", "amd64", 1000, 2**30, addresses, 1.0, {"k": "v"})
