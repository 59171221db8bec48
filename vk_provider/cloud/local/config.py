"""Configuration of one local cloud: a frozen value that is passed down, and the names derived from it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vk_provider.cloud.local.ipv6 import host_address
from vk_provider.cloud.local.settings import LocalCloudSettings, find_problem
from vk_provider.errors import BadStartError


def default_cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "vk-provider", "local-cloud")


@dataclass(frozen=True, slots=True)
class LocalCloudConfig(LocalCloudSettings):
    """How one local cloud is laid out. It is for trying out and testing, on a machine that is yours.

    The boundary that it holds: an instance has a user namespace of its own, so root of an instance, and a privileged
    container, has no rights on the machine. It sees the machine's software, read-only, and none of its configuration or
    data; it cannot change what instances share, its own limits, or the machine's kernel settings and devices; and it
    sends from its own addresses only. What it does not hold: all instances and the machine have one kernel, whose
    faults are open to every pod, and share its CPU time beyond the limits, its disk space, page cache and quotas of
    inotify; an instance reaches every port that the machine and other instances serve on the bridge. Pods that do not
    trust each other belong on a cloud with machines of its own.

    Beside the settings:

    cache_dir:     where golden containerd roots are kept between runs
    registries:    {host[:port]: {"server": url, "plain_http": bool}} for pulling what `preload` gives by reference
    remember_s:    how long a terminated instance stays in listings
    preload_agent: fork the agent from a process that has imported it (as a warm machine image would)
    """

    cache_dir: str = field(default_factory=default_cache_dir)
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remember_s: float = 600.0
    preload_agent: bool = True
    cni_bin_dir: str = "/usr/lib/cni"

    def __post_init__(self) -> None:
        if problem := find_problem(self):
            raise BadStartError(f"local cloud: {problem}")

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
    def stores_dir(self) -> Path:
        """Prepared image stores, see prepared.py."""
        return self.root / "stores"

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


def configure(settings: LocalCloudSettings, registries: Mapping[str, Mapping[str, Any]]) -> LocalCloudConfig:
    """The configuration that the settings describe. Raises BadStartError."""
    chosen = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return LocalCloudConfig(**chosen, registries=registries)
