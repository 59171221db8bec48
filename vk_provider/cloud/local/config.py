"""Configuration of one local cloud: a frozen value that is passed down, and the names derived from it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vk_provider.cloud.local.ipv6 import check_ipv6_subnet, host_address
from vk_provider.errors import BadStartError

DEFAULT_STATE_DIR = "/var/lib/vk-provider"
NAME_PATTERN = re.compile(r"^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$")
"""A name is part of a network interface name (15 characters at most in Linux)."""


def default_cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "vk-provider", "local-cloud")


@dataclass(frozen=True, slots=True)
class LocalCloudConfig:
    """How one local cloud is laid out. It is for trying out and testing, on a machine that is yours.

    The boundary that it holds: an instance has a user namespace of its own, so root of an instance, and a privileged
    container, has no rights on the machine. It sees the machine's software, read-only, and none of its configuration or
    data; it cannot change what instances share, its own limits, or the machine's kernel settings and devices; and it
    sends from its own addresses only. What it does not hold: all instances and the machine have one kernel, whose
    faults are open to every pod, and share its CPU time beyond the limits, its disk space, page cache and quotas of
    inotify; an instance reaches every port that the machine and other instances serve on the bridge. Pods that do not
    trust each other belong on a cloud with machines of its own.

    name:              one cloud per name on a machine; part of interface, namespace and cgroup names
    subnet:            IPv4 network of instances; its first address is the host's own on the bridge
    ipv6_subnet:       IPv6 network of instances, whose new ones have addresses of both; "" for IPv4 alone
    state_dir:         parent of <name>/, where the cloud remembers its instances
    cache_dir:         where golden containerd roots are kept between runs
    images:            OCI archives (paths) or image references that every instance has at boot
    registries:        {host[:port]: {"server": url, "plain_http": bool}} for pulling `images` given by reference
    sandbox_image:     archive path or reference of the pause image; "" = one built in
    nameservers:       resolv.conf of instances; empty = the host's
    max_instances:     the account's limit: more raise CloudQuotaError
    parallel_launches: launches that are prepared at the same time
    boot_credit_s:     seconds after launch in which the CPU quota is not enforced (as burstable types have it)
    remember_s:        how long a terminated instance stays in listings
    shared_bytes:      size of the file system of a Node whose instances share directories, see shared.py; it is fixed
                       when the first of them is launched
    preload_agent:     fork the agent from a process that has imported it (as a warm machine image would)
    """

    name: str = "local"
    subnet: str = "10.201.0.0/16"
    ipv6_subnet: str = ""
    state_dir: str = DEFAULT_STATE_DIR
    cache_dir: str = field(default_factory=default_cache_dir)
    images: tuple[str, ...] = ()
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sandbox_image: str = ""
    nameservers: tuple[str, ...] = ()
    max_instances: int = 250
    parallel_launches: int = 4
    boot_credit_s: float = 10.0
    remember_s: float = 600.0
    shared_bytes: int = 2**30
    preload_agent: bool = True
    cni_bin_dir: str = "/usr/lib/cni"

    def __post_init__(self) -> None:
        if not NAME_PATTERN.match(self.name):
            raise BadStartError(f"local cloud: name {self.name!r} must be 1-11 characters of a-z, 0-9 and inner '-'")
        try:
            network = ipaddress.IPv4Network(self.subnet)
        except ValueError as error:
            raise BadStartError(f"local cloud: subnet {self.subnet!r}: {error}") from None
        if network.prefixlen > 26:
            raise BadStartError(f"local cloud: subnet {self.subnet} is too small, /26 or larger is needed")
        if self.ipv6_subnet and (problem := check_ipv6_subnet(self.ipv6_subnet)):
            raise BadStartError(f"local cloud: ipv6_subnet: {problem}")
        if not os.path.isabs(self.state_dir) or set(self.state_dir) & set(":,\\ "):
            raise BadStartError(
                f"local cloud: state_dir {self.state_dir!r} must be absolute, without ':', ',' or blanks"
            )

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def host_ip(self) -> str:
        """The host's address on the bridge, and the instances' gateway."""
        return str(self.network.network_address + 1)

    @property
    def host_ipv6(self) -> str:
        """The host's IPv6 address on the bridge, "" for a cloud without IPv6."""
        return host_address(self.ipv6_subnet) if self.ipv6_subnet else ""

    @property
    def root(self) -> Path:
        """State directory of this cloud."""
        return Path(self.state_dir) / self.name

    @property
    def instances_dir(self) -> Path:
        return self.root / "instances"

    @property
    def shared_dir(self) -> Path:
        return self.root / "shared"

    @property
    def addresses_dir(self) -> Path:
        return self.root / "addresses"

    @property
    def namespace(self) -> str:
        """Name of the bridge's network namespace (`ip netns`)."""
        return f"vk-{self.name}"

    @property
    def namespace_path(self) -> str:
        return f"/run/netns/{self.namespace}"

    @property
    def host_device(self) -> str:
        """The host's interface into the bridge."""
        return f"vk-{self.name}"

    @property
    def cgroup(self) -> str:
        """Name of the parent cgroup of all instances, in every hierarchy."""
        return f"vk-{self.name}"
