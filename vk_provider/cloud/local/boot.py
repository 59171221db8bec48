"""The boot specification of an instance's first process, as JSON on disk: the contract between launcher and init."""

from __future__ import annotations

import ipaddress
import json
import math
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.cgroup import InstanceCgroup
from vk_provider.cloud.local.store import InstanceRecord

CONTAINERD_ROOT = "/var/lib/containerd"
PREPARED = f"{CONTAINERD_ROOT}/prepared"
"""Where an instance has the layers of the prepared images, see images.py."""
SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
CONTENT = "io.containerd.content.v1.content"
"""Below containerd's root."""
DISK_DIRECTORIES = {
    "containerd/snapshots": f"{CONTAINERD_ROOT}/{SNAPSHOTS}",
    "containerd/volumes": f"{CONTAINERD_ROOT}/io.containerd.grpc.v1.cri/containers",
    "kubelet": "/var/lib/kubelet",
    "log": "/var/log",
    "blobs": "/var/lib/vk-agent/blobs",
}
"""Directory below disk/ -> where it is mounted in the instance (on disk: overlayfs cannot nest on overlayfs, and what
pods and images write may be large). The rest of what containerd and the agent keep is in the instance's memory."""
KEPT_DIRECTORIES = {"agent": "/var/lib/vk-agent"}
"""The same, and only where there is such a directory: of instances that can be stopped and started again."""

METADATA_URL = "http://169.254.169.254"


@dataclass(frozen=True, slots=True)
class BridgeNetwork:
    """What the instances of a cloud are connected to: a bridge in a network namespace, given by its path."""

    subnet: str
    gateway: str
    bridge_namespace: str
    bridge: str


@dataclass(frozen=True, slots=True)
class BootSpec:
    """The input of init; paths are those of the host.

    layer:     lower layer of the instance's root, see layer.py
    binds:     the host's software, mounted read-only at the same place, see software.py; inner paths come later
    hidden:    directories within these that are shown empty, but for later binds
    shared:    directories of the Node, and where they are mounted in the instance, see shared.py
    images:    the prepared images, shared by instances, see images.SharedImages
    containerd, agent: argument lists; agent_module is what `agent` names, for starting it by fork
    """

    instance_id: str
    hostname: str
    directory: str
    layer: str
    binds: tuple[str, ...]
    hidden: tuple[str, ...]
    images: str
    addresses: Addresses
    network: BridgeNetwork
    cgroup: dict[str, Any]
    cpu_milli: int
    boot_credit_s: float
    containerd: tuple[str, ...]
    agent: tuple[str, ...]
    environment: dict[str, str]
    shared: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path:
        return Path(self.directory)

    @property
    def instance_cgroup(self) -> InstanceCgroup:
        return InstanceCgroup.from_json(self.cgroup)

    @property
    def port(self) -> str:
        """Name of the instance's port on the bridge (15 characters at most)."""
        return port_name(self.addresses.primary_ip)

    @property
    def slot(self) -> int:
        """See userns.host_id: instances that live at the same time have different addresses, two each."""
        network = ipaddress.IPv4Network(self.network.subnet)
        return (int(ipaddress.IPv4Address(self.addresses.primary_ip)) - int(network.network_address)) // 2

    def to_text(self) -> str:
        document = asdict(self)
        addresses, network = document.pop("addresses"), document.pop("network")
        return json.dumps(document | addresses | network)

    @classmethod
    def from_text(cls, text: str) -> BootSpec:
        document: dict[str, Any] = json.loads(text)
        for key in ("binds", "hidden", "containerd", "agent"):
            document[key] = tuple(document[key])
        document["shared"] = tuple((source, path) for source, path in document.get("shared", ()))
        document["addresses"] = Addresses.take(document)
        document["network"] = BridgeNetwork(**{each.name: document.pop(each.name) for each in fields(BridgeNetwork)})
        return cls(**document)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> BootSpec:
        return cls.from_text((Path(directory) / "boot.json").read_text())


def fill(
    template: BootSpec,
    record: InstanceRecord,
    directory: str,
    group: InstanceCgroup,
    shared: tuple[tuple[str, str], ...] = (),
) -> BootSpec:
    """The spec of one instance, from what all instances share, its record and what its Node shares. Its Go programs run
    as many threads as its type has CPUs, not as the machine has: more would take turns on the same quota."""
    return replace(
        template,
        instance_id=record.instance_id,
        hostname=hostname_of(record.addresses.primary_ip),
        directory=directory,
        addresses=record.addresses,
        cgroup=group.to_json(),
        cpu_milli=record.cpu_milli,
        environment=template.environment | {"GOMAXPROCS": str(max(1, math.ceil(record.cpu_milli / 1000)))},
        shared=shared,
    )


def hostname_of(primary_ip: str) -> str:
    """The instance's host name, as EC2 makes it from the address."""
    return "ip-" + primary_ip.replace(".", "-")


def mac_address(primary_ip: str) -> str:
    """A locally administered address made of the IP, so that a reused IP never has a stale neighbour entry."""
    octets = ipaddress.IPv4Address(primary_ip).packed
    return ":".join(f"{byte:02x}" for byte in b"\x02\x56" + octets)


def port_name(primary_ip: str) -> str:
    """Name of an instance's port on the bridge: derived from the address like the MAC, so that the rule for a port
    never changes."""
    return "v" + ipaddress.IPv4Address(primary_ip).packed.hex()


def sysctls(spec: BootSpec) -> dict[str, str]:
    """Kernel settings of the instance's network namespace: {path below /proc/sys: value}."""
    return _SYSCTLS | _IPV6_SYSCTLS if spec.addresses.ipv6_subnet else _SYSCTLS


_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/eth0/proxy_arp": "1",
    "net/ipv4/neigh/eth0/proxy_delay": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/eth0/rp_filter": "0",
}
"""proxy_arp makes the instance answer for its pod address without a delay."""

_IPV6_SYSCTLS = {
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/all/proxy_ndp": "1",
    "net/ipv6/conf/eth0/proxy_ndp": "1",
    "net/ipv6/neigh/eth0/proxy_delay": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}
"""The same for IPv6, as far as there is a proxy entry. The gateway's address on the pod's link answers at once."""


def build_hosts(spec: BootSpec) -> str:
    own, name = spec.addresses, spec.hostname
    ipv6 = f"{own.primary_ipv6} {name}\n" if own.primary_ipv6 else ""
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own.primary_ip} {name}\n{ipv6}"
