"""A client of the real control plane with the rights of manifests/base, and a record of its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from vk_provider.kube.client import KubeClient

BASE = Path(__file__).parents[3] / "manifests" / "base"
RBAC_FILES = (
    "namespace.yaml",
    "serviceaccount.yaml",
    "clusterrole.yaml",
    "clusterrolebinding.yaml",
    "lease-role.yaml",
    "client-ca-role.yaml",
    "identity-role.yaml",
)


@dataclass
class Provider:
    """`client` acts as the provider's ServiceAccount; `calls` are (verb, resource) that the API server let through."""

    client: KubeClient
    plane: ControlPlane
    calls: set[tuple[str, str]] = field(default_factory=set)
    forbidden: set[tuple[str, str]] = field(default_factory=set)


@pytest.fixture(scope="session")
def provider_kubeconfig(control_plane: ControlPlane) -> Path:
    for name in RBAC_FILES:
        control_plane.kubectl("apply", "-f", str(BASE / name))
    return control_plane.service_account_kubeconfig("vk-provider", "vk-provider")


@pytest.fixture
async def provider(control_plane: ControlPlane, provider_kubeconfig: Path) -> AsyncIterator[Provider]:
    client = await KubeClient.connect(str(provider_kubeconfig))
    made = Provider(client, control_plane)

    def record(verb: str, resource: str, status: int, _seconds: float) -> None:
        (made.forbidden if status == 403 else made.calls).add((verb, resource))

    client.metrics_hook = record
    yield made
    await client.close()


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, with its default ServiceAccount."""
    name = request.node.name.replace("_", "-").lower()[:50].strip("-")
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl("wait", "--for=create", "serviceaccount/default", "configmap/kube-root-ca.crt", "-n", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")
