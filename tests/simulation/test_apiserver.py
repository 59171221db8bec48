"""What only the model can be made to do, where a real API server takes minutes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import pytest

from tests.simulation.apiserver.network import Network, NoCredentials, Transport
from tests.simulation.apiserver.server import ApiServer
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube import client as client_module
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer
from vk_provider.kube.paths import PODS

POD: Json = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}
POD_PATH = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(ApiServer(random.Random(1)), random.Random(2))
    monkeypatch.setattr(client_module, "_session", lambda limit: Transport(made))
    monkeypatch.setattr(client_module, "Credentials", NoCredentials)
    return made


@pytest.fixture
async def client(network: Network) -> AsyncIterator[KubeClient]:
    made = await KubeClient.connect()
    yield made
    await made.close()


async def test_a_version_before_a_compaction_has_expired(network: Network, client: KubeClient) -> None:
    pod = await client.create(POD_PATH, POD)
    network.server.compact()
    network.server.store.patch(
        "pods", "default", "p", {"metadata": {"labels": {"a": "b"}}}, "application/merge-patch+json"
    )
    network.server.compact()
    with pytest.raises(KubeApiError) as caught:
        async with aclosing(client.watch(PODS, None, pod["metadata"]["resourceVersion"])) as stream:
            await anext(stream)
    assert caught.value.is_expired


async def test_an_informer_follows_through_broken_watches_and_compactions(network: Network, client: KubeClient) -> None:
    informer = Informer(client, PODS, {"fieldSelector": "spec.nodeName=n"})
    running = asyncio.create_task(informer.run())
    await informer.synced.wait()
    for number in range(5):
        network.break_watches()
        network.server.store.create("pods", "default", {**POD, "metadata": {"name": f"p{number}"}})
        network.server.compact()
    async with asyncio.timeout(10):
        while len(informer.items) < 5:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_lost_answer_is_carried_out_and_a_lost_request_is_not(network: Network, client: KubeClient) -> None:
    network.faults.lost_request = 1.0
    with pytest.raises(KubeApiError):
        await client.create(POD_PATH, POD)
    assert network.server.store.find("pods", "default", "p") is None
    network.faults.lost_request, network.faults.lost_answer = 0.0, 1.0
    with pytest.raises(KubeApiError):
        await client.create(POD_PATH, POD)
    assert network.server.store.find("pods", "default", "p") is not None


async def test_a_request_that_hangs_ends_by_its_limit(network: Network, client: KubeClient) -> None:
    network.faults.hangs.append(lambda info: info.resource == "pods")
    with pytest.raises(KubeApiError) as caught:
        await client.request("GET", f"{POD_PATH}/p", timeout_s=0.05, retry=False)
    assert caught.value.reason == "Timeout"


async def test_what_a_stalled_watch_has_held_back_comes_in_order(network: Network) -> None:
    stream = network.open_stream(PODS, {"resourceVersion": str(network.server.store.version)})
    network.stall(True)
    for number in range(20):
        network.server.store.create("pods", "default", {**POD, "metadata": {"name": f"p{number:02}"}})
    network.stall(False)
    lines = stream.chunks(5.0)
    names = [(await anext(lines)).split(b'"name":"')[1].split(b'"')[0] for _ in range(20)]
    assert names == [b"p%02d" % number for number in range(20)]
    stream.fail(aiohttp.ClientPayloadError("broken"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await anext(lines)
    await lines.aclose()
