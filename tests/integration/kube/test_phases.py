"""The phases of a provider on a real control plane, with its own rights and the simulated cloud."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.integration.kube.waiting import until
from vk_provider.app import Provider
from vk_provider.errors import BadStartError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.recorder import EventRecorder
from vk_provider.kubelet.server import HealthServer, KubeletServer
from vk_provider.node.podwatch import PodWatches
from vk_provider.pods.controller import PodController
from vk_provider.settings import Settings, load_settings

HERE = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(tmp_path: Path, provider_kubeconfig: Path, request: pytest.FixtureRequest) -> Settings:
    name = "node-" + request.node.name.replace("_", "-").lower()[:40].strip("-")
    path = tmp_path / "config.toml"
    path.write_text(
        f'[[nodes]]\nname = "{name}"\naddress = "{HERE}"\nport = {free_port()}\nservices_here = "off"\n'
        f'[cluster]\nkubeconfig = "{provider_kubeconfig}"\n[cloud]\nbackend = "simulated"\n'
        f'[identity]\ndirectory = "{tmp_path / "identity"}"\n[pods]\narchive_dir = "{tmp_path / "archive"}"\n'
        f'[ledger]\nfile = "{tmp_path / "ledger"}"\n'
        f'[kubelet]\ncertificate_dir = "{tmp_path / "pki"}"\nhealthz_port = 0\n'
    )
    return load_settings(path, {})


READING = {"Services", "tables of Services", "endpoint slices", "service CIDRs"}
"""Tasks of a provider that was prepared: it reads the cluster's Services."""


class Plane:
    """What the API server says."""

    def __init__(self, plane: ControlPlane, node: str) -> None:
        self._plane, self.node = plane, node

    async def find(self, *args: str) -> Any:
        """None where there is none."""
        found = await self._plane.kubectl_async("get", *args, "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else None

    async def until(self, condition: Callable[[Any], Any], *args: str) -> Any:
        async with asyncio.timeout(15):
            while True:
                if (found := await self.find(*args)) and condition(found):
                    return found
                await asyncio.sleep(0.05)

    async def create(self, document: Any, directory: Path) -> None:
        path = directory / f"{document['metadata']['name']}.json"
        path.write_text(json.dumps(document))
        await self._plane.kubectl_async("create", "-f", str(path))

    async def delete_node(self) -> None:
        await self._plane.kubectl_async("delete", "node", self.node, "--ignore-not-found")


@pytest.fixture
async def plane(control_plane: ControlPlane, settings: Settings) -> AsyncIterator[Plane]:
    made = Plane(control_plane, settings.nodes[0].name)
    yield made
    await made.delete_node()


@asynccontextmanager
async def stopped_after(provider: Provider, beside: Collection[str] = ()) -> AsyncIterator[None]:
    """A provider leaves no task behind. beside: those of another one, by name."""
    before = asyncio.all_tasks()
    try:
        yield
    finally:
        await provider.stop()
    assert {task.get_name() for task in asyncio.all_tasks() - before} <= set(beside)


def is_ready(node: Any) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])


def since_ready(node: Any) -> str:
    return next(str(each["lastTransitionTime"]) for each in node["status"]["conditions"] if each["type"] == "Ready")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HERE, port)) == 0


def make_pod(node: str, namespace: str) -> Any:
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}


async def test_a_prepared_provider_changes_nothing_until_it_leads_and_its_node_stays_ready_after_it(
    settings: Settings, plane: Plane, namespace: str, tmp_path: Path
) -> None:
    provider, port = Provider(settings), settings.nodes[0].port
    async with stopped_after(provider):
        base = await provider.prepare()
        assert provider.supervisor._tasks.keys() <= READING and not is_open(port)
        assert await plane.find("node", plane.node) is None
        assert await plane.find("lease", plane.node, "-n", "kube-node-lease") is None
        await provider.lead(base)
        leader = provider.leader
        assert leader is not None and is_open(port) and leader.watches.are_synced
        await plane.until(is_ready, "node", plane.node)
        await plane.create(make_pod(plane.node, namespace), tmp_path)
        await plane.until(lambda pod: pod["status"].get("phase") == "Running", "pod", "p", "-n", namespace)
        assert len(leader.controller.records) == 1
    assert not is_open(port)
    assert is_ready(await plane.find("node", plane.node))
    assert (await plane.find("pod", "p", "-n", namespace))["status"]["phase"] == "Running"


async def test_a_second_provider_of_the_node_fails_before_it_changes_anything(
    settings: Settings, plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Provider(settings), Provider(settings)
    async with stopped_after(first):
        await first.start()
        node = await plane.until(is_ready, "node", plane.node)
        caplog.clear()
        async with stopped_after(second):
            with pytest.raises(BadStartError, match="kubelet API cannot listen on .*: taken by another process"):
                await second.start()
        assert "the next start adopts them" not in caplog.text, "nothing was led"
        assert (await plane.find("node", plane.node))["metadata"]["uid"] == node["metadata"]["uid"]


async def test_a_provider_that_was_prepared_beside_the_first_leads_after_it_and_the_node_does_not_flap(
    settings: Settings, plane: Plane
) -> None:
    first, standby = Provider(settings), Provider(settings)
    async with stopped_after(standby):
        async with stopped_after(first, beside=READING):
            await first.start()
            before = await plane.until(is_ready, "node", plane.node)
            base = await standby.prepare()
            lease = await plane.until(bool, "lease", plane.node, "-n", "kube-node-lease")
        await standby.lead(base)
        renewed = lease["spec"]["renewTime"]
        await plane.until(
            lambda seen: seen["spec"]["renewTime"] > renewed, "lease", plane.node, "-n", "kube-node-lease"
        )
        after = await plane.find("node", plane.node)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert since_ready(after) == since_ready(before)


async def test_a_stop_goes_back_the_way_of_the_start(
    settings: Settings, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def note(kind: type, name: str, what: str) -> None:
        real = getattr(kind, name)

        async def noted(self: Any, *args: Any) -> Any:
            taken.append(what)
            return await real(self, *args)

        monkeypatch.setattr(kind, name, noted)

    note(KubeletServer, "stop", "streams")
    note(HealthServer, "stop", "health")
    note(PodWatches, "stop", "watches of pods")
    note(PodController, "close", "statuses")
    note(EventRecorder, "flush", "events")
    note(KubeClient, "close", "client")
    provider = Provider(settings)
    running: set[str] = set()
    real_flush = EventRecorder.flush

    async def look(self: EventRecorder, timeout_s: float) -> bool:
        running.update(provider.supervisor._tasks)
        return await real_flush(self, timeout_s)

    monkeypatch.setattr(EventRecorder, "flush", look)
    async with stopped_after(provider):
        await provider.start()
        await plane.until(is_ready, "node", plane.node)
    assert taken == ["streams", "health", "watches of pods", "statuses", "events", "client", "client", "client"]
    assert f"node {plane.node}" in running, "its Lease is renewed until the statuses are told"
    assert f"pods of {plane.node}" not in running


async def test_a_start_that_is_interrupted_while_it_waits_for_the_cloud_leaves_nothing(
    settings: Settings, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def hang(*_: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    provider = Provider(settings)
    async with stopped_after(provider):
        base = await provider.prepare()
        monkeypatch.setattr(type(base.cloud), "list_page", hang)
        leading = asyncio.create_task(provider.lead(base))
        await until(asked.is_set)
        leading.cancel()
        await asyncio.wait({leading})
    assert await plane.find("node", plane.node) is None
