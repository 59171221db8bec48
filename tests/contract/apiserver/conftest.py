"""One suite for the API server and for the model of it: what the simulation relies on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.simulation.apiserver.network import Network, NoCredentials, Transport
from tests.simulation.apiserver.server import ApiServer
from vk_provider.kube import client as client_module
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import NAMESPACES


@dataclass
class Cluster:
    """An administrator's client and a namespace of the test's own."""

    client: KubeClient
    namespace: str
    node: str


@pytest.fixture(params=["model", "real"])
async def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    name = request.node.originalname.replace("test_", "").replace("_", "-")[:50].strip("-")
    if request.param == "model":
        network = Network(ApiServer(random.Random(1)), random.Random(2))
        monkeypatch.setattr(client_module, "_session", lambda limit: Transport(network))
        monkeypatch.setattr(client_module, "Credentials", NoCredentials)
        client = await KubeClient.connect()
        await client.create(NAMESPACES, {"metadata": {"name": name}})
        yield Cluster(client, name, f"node-of-{name}")
        await client.close()
        return
    plane = request.getfixturevalue("control_plane")
    plane.kubectl("create", "namespace", name)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name)
    client = await KubeClient.connect(str(plane.kubeconfig))
    yield Cluster(client, name, f"node-of-{name}")
    await client.close()
    plane.kubectl("delete", "namespace", name, "--wait=false")
    plane.kubectl("delete", "node", f"node-of-{name}", "--ignore-not-found", "--wait=false")
