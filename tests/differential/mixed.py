"""The cluster of two Nodes: ours on the local cloud, and a real kubelet."""

from __future__ import annotations

from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.demo import cluster
from tests.demo.environment import NODE, Environment
from tests.differential.case import IMAGES
from tests.differential.normalise import KUBELET

NODES = (NODE, KUBELET)
"""Ours first."""

DIFFERENTIAL = Environment(
    cache_dir() / "differential-cluster",
    name="diff",
    subnet="10.211.0.0/16",
    address="10.211.0.1",
    taint=False,
    daemonsets="run",
    preload_images=tuple(sorted(set(IMAGES.values()))),
    healthz_port=10648,
    kubelet_node=KUBELET,
    kubelet_network="10.212.0.0/23",
)


def up() -> ControlPlane:
    """Bring it up, or find it up."""
    known = Environment.load(DIFFERENTIAL.root)
    if known is not None and known != DIFFERENTIAL:
        cluster.down(known)
    return cluster.up(DIFFERENTIAL)


def down() -> None:
    """Take away what is up of it."""
    if known := Environment.load(DIFFERENTIAL.root):
        cluster.down(known)
