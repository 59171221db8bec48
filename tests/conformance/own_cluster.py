"""A cluster for the specs alone: one untainted nodeless Node, cluster DNS, the images of the specs preloaded."""

from __future__ import annotations

from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.demo import cluster
from tests.demo.environment import E2E_IMAGES, Environment


def _environment(name: str, network: int, healthz_port: int) -> Environment:
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
        resolver=True,
        dns=True,
    )


CONFORMANCE = _environment("conf", 202, 10448)
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
