"""The table [cloud.local]."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from vk_provider.cloud.local.ipv6 import check_ipv6_subnet
from vk_provider.settingtypes import NonNegativeFloat, PositiveInt

DEFAULT_STATE_DIR = "/var/lib/vk-provider"
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?")
"""A name is part of a network interface name (15 characters at most in Linux)."""
LONGEST_PREFIX = 26
"""Of the subnet. An instance has two addresses and the first 16 are the machine's (store.py): 23 instances."""


@dataclass(frozen=True, slots=True)
class LocalCloudSettings:
    """The embedded cloud: instances are Linux namespaces on this machine.

    name:          one cloud per name on a machine; part of interface, namespace and cgroup names
    subnet:        IPv4 network of instances, of /26 or larger; its first address is the machine's own on the bridge
    ipv6_subnet:   of /96 or larger, such as "fd00:201::/64": new instances and their pods have an IPv6 address beside
                   the one of `subnet`; "" for none
    state_dir:     parent of <name>/, where the cloud remembers its instances
    sandbox_image: "" builds a minimal pause image; else a reference that the instances can pull
                   or the path of an OCI archive
    preload:       OCI archives (paths) or image references put once into the containerd root that every instance
                   starts from
    launch_concurrency: launches that are prepared at the same time
    nameservers:   resolv.conf of the instances; empty = the host's
    max_instances: the account's limit: more raise CloudQuotaError
    boot_credit_s: seconds after launch in which the CPU quota of the instance type is not enforced (as burstable types
                   have it)
    shared_bytes:  of all shared_host_paths of a Node together: the size of their file system, see shared.py, which is
                   fixed when the first of its instances is launched
    """

    name: str = "local"
    subnet: str = "10.201.0.0/16"
    ipv6_subnet: str = ""
    state_dir: str = DEFAULT_STATE_DIR
    sandbox_image: str = ""
    preload: tuple[str, ...] = ()
    launch_concurrency: PositiveInt = 4
    nameservers: tuple[str, ...] = ()
    max_instances: PositiveInt = 250
    boot_credit_s: NonNegativeFloat = 10.0
    shared_bytes: Annotated[int, Meta(ge=16 * 2**20)] = 2**30


def find_problem(settings: LocalCloudSettings) -> str:
    """What is wrong with them beyond types and limits: one line that begins with the key, "" for nothing."""
    if not NAME_PATTERN.fullmatch(settings.name):
        return f"name {settings.name!r} must be 1-11 characters of a-z, 0-9 and inner '-'"
    if problem := _check_subnet(settings.subnet):
        return f"subnet {problem}"
    if settings.ipv6_subnet and (problem := check_ipv6_subnet(settings.ipv6_subnet)):
        return f"ipv6_subnet: {problem}"
    if not os.path.isabs(settings.state_dir) or set(settings.state_dir) & set(":,\\ "):
        return f"state_dir {settings.state_dir!r} must be absolute, without ':', ',' or blanks"
    return ""


def _check_subnet(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        return f"must be an IPv4 network: {error}"
    if network.version != 4:
        return (
            "must be an IPv4 network: instances with IPv6 addresses alone are not supported; for both families, set "
            "ipv6_subnet beside it"
        )
    if network.prefixlen > LONGEST_PREFIX:
        return f"must be an IPv4 network of /{LONGEST_PREFIX} or larger, not {text}"
    return ""
