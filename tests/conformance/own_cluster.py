"""A cluster for the specs alone: untainted nodeless Nodes, cluster DNS, the images of the specs preloaded."""

from __future__ import annotations

import os
from typing import Any

from tests.cluster import containerd2
from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.demo import cluster
from tests.demo.environment import E2E_IMAGES, Environment
from vk_provider.cloud.local.catalog import build_offerings, machine_architecture


def _environment(name: str, network: int, healthz_port: int, **more: Any) -> Environment:
    """Every cluster beside others has a name, a subnet and a port of its own."""
    return Environment(
        cache_dir() / f"{name}-cluster",
        name=name,
        subnet=f"10.{network}.0.0/16",
        address=f"10.{network}.0.1",
        taint=False,
        daemonsets="run",
        preload_images=E2E_IMAGES,
        healthz_port=healthz_port,
        **more,
        resolver=True,
        dns=True,
    )


def _capacity() -> tuple[tuple[str, str], ...]:
    """Of each Node: what the largest instance type has, since a spec runs a pod that asks for most of its Node."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    largest = max(build_offerings(machine_architecture(), memory), key=lambda each: each.cpu_milli)
    return (
        ("cpu", f"{largest.cpu_milli}m"),
        ("memory", str(largest.memory_bytes)),
        ("pods", "500"),
        ("ephemeral-storage", "1Ti"),
    )


CONFORMANCE = _environment(
    "conf",
    202,
    10448,
    more_nodes=("nodeless-2",),  # the suite needs two schedulable Nodes
    shared_host_paths=("/tmp/job-e2e",),  # where tries of one Job leave something for the next
    capacity=_capacity(),
    containerd=containerd2.BUILT,  # one of the specs mounts an image volume
)
DUAL_STACK = _environment("conf6", 221, 10948, more_nodes=("nodeless-2",), ipv6_subnet="fd00:221::/64")
"""For the specs with the feature IPv6DualStack."""
SMOKE = _environment("smoke", 208, 10548)


def up(environment: Environment) -> ControlPlane:
    """Bring it up, or find it up as an interrupted run has left it."""
    known = Environment.load(environment.root)
    if known is not None and known != environment:
        cluster.down(known)
    return cluster.up(environment)


def down(environment: Environment) -> None:
    """Take down what is up of it, if anything."""
    if known := Environment.load(environment.root):
        cluster.down(known)
