"""Pods of a private image on real instances with real agents, before and after its store was prepared."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tarfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.cluster.images.__main__ import write_image_archive
from tests.integration.local_cloud.conftest import request
from tests.integration.local_cloud.machine import until
from tests.listener import Listener
from tests.password_registry import Image, PasswordRegistry, make_image, make_index, make_layer
from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.session import Slot
from vk_provider.cloud.base import TAG_LAUNCH, Instance
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.errors import AgentUnreachableError
from vk_provider.imagesets.sets import Limits
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.preparer import ImagePreparer
from vk_provider.registry.client import RegistryClient
from vk_provider.wire.bootdata import BootData

pytestmark = pytest.mark.real

IDENTITY = ProviderIdentity.create(datetime.now(UTC))
MASTER = IDENTITY.master_secrets[-1]


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A multi-arch index whose image of this machine can be run."""
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    write_image_archive("sample-busybox", "docker.io/library/busybox:1", archive)
    other = make_image([make_layer({"other": b"x"})], architecture="s390x")
    return make_index({machine_architecture(): read_archive(archive), "s390x": other})


def read_archive(path: Path) -> Image:
    """The image of an OCI archive."""
    with tarfile.open(path) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames() if tar.getmember(name).isfile()}
    (entry,) = json.loads(files["index.json"])["manifests"]
    blobs = {f"sha256:{Path(name).name}": content for name, content in files.items() if name.startswith("blobs/")}
    manifest = json.loads(blobs[entry["digest"]])
    kinds = {each["digest"]: each["mediaType"] for each in (manifest["config"], *manifest["layers"], entry)}
    return Image(entry["digest"], {digest: (kinds[digest], blobs[digest]) for digest in kinds})


class Secrets:
    def __init__(self) -> None:
        self.items: dict[str, Json] = {}

    def put(self, name: str, host: str, password: str) -> None:
        auth = base64.b64encode(f"me:{password}".encode()).decode()
        text = json.dumps({"auths": {host: {"auth": auth}}})
        self.items[name] = {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}

    async def read_pull_secrets(self, pod: Json) -> Mapping[str, Json | None]:
        return {each["name"]: self.items.get(each["name"]) for each in pod["spec"].get("imagePullSecrets") or ()}


class World:
    """Launches pods as the provider does, without an API server."""

    image_peers = False

    def __init__(self, cloud: LocalCloud, registry: PasswordRegistry) -> None:
        self.cloud, self.registry, self.secrets = cloud, registry, Secrets()
        self.registries = {registry.host: {"plain_http": True, "server": f"http://{registry.host}"}}
        self.client = RegistryClient(self.registries)
        self.connector = HttpsConnector(IDENTITY, 3600)
        self.records: list[PodRecord] = []
        self.problems: list[str] = []
        self._listeners: list[Listener] = []
        self.preparer = ImagePreparer(
            cloud.image_stores,
            Limits(1 << 30, 3600.0),
            PullAuthority(self.client),
            self.secrets,
            ImageMetrics(CollectorRegistry()),
            lambda record, kind, reason, text: self.problems.append(f"{reason}: {text}"),
            lambda: self.records,
        )
        self._running = asyncio.create_task(self.preparer.run())

    async def close(self) -> None:
        for listener in self._listeners:
            await listener.close()
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        await self.preparer.close()
        await self.connector.close()
        await self.client.close()

    async def run(self, image: str, *, secret: str = "", policy: str = "IfNotPresent") -> PodOnInstance:
        return await self.start(build_pod(image, secret, policy))

    async def start(self, pod: Json) -> PodOnInstance:
        chosen = self.preparer.choose(pod)
        store = chosen if chosen is not None else await self.preparer.prove(pod)
        token = pod["metadata"]["uid"]
        launch = build_launch_id(MASTER, token)
        secret_text = derive_boot_secret(MASTER, launch)
        boot = BootData(IDENTITY.ca_pem, secret_text, registries=self.registries, image_peers=self.image_peers)
        plain = await request(self.cloud, token)
        tags = {**plain.tags, TAG_LAUNCH: launch}
        answer = await self.cloud.launch(replace(plain, user_data=boot.to_user_data(), tags=tags, image_store=store))
        (instance,) = answer.instances
        record = PodRecord(token, "n", pod)
        record.assignment.take(OwnedInstance(instance))
        self.records.append(record)
        listener = await self._dial(instance)
        self._listeners.append(listener)
        secrets = await self.secrets.read_pull_secrets(pod)
        node = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": "", "tellImages": True}
        listener.session.put(
            Slot.POD, {"type": "pod", "pod": pod, "references": {"secrets": secrets}, "services": [], "node": node}
        )
        return PodOnInstance(self, record, listener, store)

    async def _dial(self, instance: Instance) -> Listener:
        async with asyncio.timeout(60):
            while True:
                try:
                    return Listener(await self.connector.open_session(instance))
                except AgentUnreachableError:
                    await asyncio.sleep(0.02)

    async def prepared(self, count: int) -> None:
        async with asyncio.timeout(180):
            while len(await self.cloud.image_stores.list_prepared()) != count:
                assert not self.problems and not self._running.done(), self.problems
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)  # until the preparer has it, too


class PodOnInstance:
    def __init__(self, world: World, record: PodRecord, listener: Listener, store: str) -> None:
        self.world, self.record, self.listener, self.store = world, record, listener, store
        self.seen: list[Any] = []

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        """The first status that is wanted."""
        try:
            found = await self.listener.wait_for(lambda m: m["type"] == "status" and wanted(m["status"]), 120)
        except TimeoutError:
            raise AssertionError(f"not seen: {[m for m in self.listener.seen if m['type'] != 'stats']}") from None
        self.seen += found
        status: Json = found[-1]["status"]
        return status

    async def running(self) -> Json:
        """The container's status once it runs and its images were told."""
        status = await self.until(lambda status: status["phase"] == "Running")
        await self.settle()
        found: Json = status["containerStatuses"][0]
        return found

    async def waiting(self) -> str:
        """Why the container does not start."""

        def reason(status: Json) -> str:
            states = [each["state"].get("waiting") or {} for each in status.get("containerStatuses") or ()]
            return next((state["reason"] for state in states if str(state.get("reason")).startswith("ErrImage")), "")

        return reason(await self.until(lambda status: bool(reason(status))))

    async def settle(self) -> None:
        async with asyncio.timeout(60):
            while not any(m["type"] == "images" for m in self.listener.seen):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
        for message in self.listener.seen:
            if message["type"] == "images":
                self.world.preparer.receive(self.record, message)

    def events(self, reason: str) -> list[str]:
        return [m["message"] for m in self.listener.seen if m["type"] == "event" and m["reason"] == reason]

    async def told(self, reason: str, count: int = 1) -> list[str]:
        """The events of that reason, once there are so many: some come after the pod runs."""
        async with asyncio.timeout(60):
            while len(found := self.events(reason)) < count:  # noqa: ASYNC110 - nothing announces them
                await asyncio.sleep(0.02)
        return found

    async def end(self) -> None:
        self.world.preparer.forget(self.record)
        self.world.records.remove(self.record)
        await self.listener.close()
        assert self.record.instance is not None
        await self.world.cloud.terminate([self.record.instance.instance_id])


def build_pod(image: str, secret: str, policy: str) -> Json:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": policy,
        "command": ["sleep", "300"],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "spec": {
            "nodeName": "n",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **({"imagePullSecrets": [{"name": secret}]} if secret else {}),
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


@pytest.fixture
async def world(cloud: LocalCloud, busybox: Image) -> AsyncIterator[World]:
    """A registry that demands a password, with the Secrets `right` and `wrong`."""
    registry = PasswordRegistry(users={"me": "right"})
    await registry.start(cloud.config.host_ip)
    registry.push("team/busybox", "1", busybox)
    made = World(cloud, registry)
    made.secrets.put("right", registry.host, "right")
    made.secrets.put("wrong", registry.host, "wrong")
    yield made
    await made.close()
    await registry.stop()


async def test_a_private_image_before_and_after_its_store_was_prepared(world: World, busybox: Image) -> None:
    registry, image = world.registry, f"{world.registry.host}/team/busybox:1"
    denied = await world.run(image)
    assert await denied.waiting() == "ErrImagePull"
    await denied.end()

    first = await world.run(image, secret="right")
    pulled = await first.running()
    (message,) = first.events("Pulled")
    assert message.startswith(f'Successfully pulled image "{image}" in ') and "Image size: " in message
    assert pulled["imageID"] == f"{registry.host}/team/busybox@{busybox.digest}"
    fetched = registry.requests["GET blobs"]
    await world.prepared(1)
    await first.end()  # the store does not need it any more

    second = await world.run(image, secret="right")
    assert second.store
    found = await second.running()
    assert second.events("Pulled") == [
        f'Container image "{image}" already present on machine and can be accessed by the pod'
    ]
    size = sum(len(busybox.parts[digest][1]) for digest in registry.blobs)
    assert await second.told("ImageFetched") == [
        f'Image "{image}" came as 0 bytes from other instances, 0 from the registry; {size} bytes were there'
    ]
    assert found["imageID"] == pulled["imageID"] and found["image"] == pulled["image"]

    never = await world.run(image, secret="right", policy="Never")
    await never.running()
    always = await world.run(image, secret="right", policy="Always")
    await always.running()
    (message,) = always.events("Pulled")
    assert message.startswith("Successfully pulled image")
    assert await always.told("ImageFetched") == second.events("ImageFetched")
    assert registry.requests["GET blobs"] == fetched

    for secret, policy, reason in (
        ("", "IfNotPresent", "ErrImagePull"),
        ("wrong", "IfNotPresent", "ErrImagePull"),
        ("", "Never", "ErrImageNeverPull"),
    ):
        refused = await world.run(image, secret=secret, policy=policy)
        assert refused.store == "" and await refused.waiting() == reason
    del world.secrets.items["right"]
    deleted = await world.run(image, secret="right")
    assert deleted.store == "" and await deleted.waiting() == "ErrImagePull"


async def test_moved_and_removed_tags_and_digests(world: World, busybox: Image) -> None:
    registry, image = world.registry, f"{world.registry.host}/team/busybox:1"
    registry.users = {}
    pinned = f"{registry.host}/team/busybox@{busybox.digest}"
    for reference in (image, pinned):
        first = await world.run(reference)
        await first.running()
        await world.prepared(1 if reference == image else 2)
        await first.end()
    registry.remove_tag("team/busybox", "1")
    for reference in (image, pinned):
        later = await world.run(reference)
        assert (await later.running())["imageID"] == pinned
        await later.end()
    (inner,) = [part for part in busybox.parts if busybox.parts[part][0].endswith("manifest.v1+json")][:1]
    alone = Image(inner, busybox.parts)
    registry.push("team/busybox", "1", alone)
    old = await world.run(image)
    assert (await old.running())["imageID"] == pinned
    await old.end()
    newer = await world.run(image, policy="Always")
    assert (await newer.running())["imageID"] == f"{registry.host}/team/busybox@{inner}"
    await until(lambda: inner in str(world.preparer._sets.stores), 180)
    last = await world.run(image)
    assert (await last.running())["imageID"] == f"{registry.host}/team/busybox@{inner}"
    assert "already present" in last.events("Pulled")[0]
