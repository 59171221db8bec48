"""Pods of more parts than one container, before and after their store was prepared: an init container, a sidecar,
layers of Zstandard, an image volume."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import pytest

from tests.integration.local_cloud.machine import until
from tests.integration.local_cloud.test_prepared_pods import PodOnInstance, World, build_pod, busybox
from tests.password_registry import Image, PasswordRegistry, make_image, make_layer
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.containerd import find_containerd
from vk_provider.jsontypes import Json

__all__ = ["busybox"]

pytestmark = pytest.mark.real

CANNOT = "cannot mount image volumes"


def pack_zstd_image(found: Image, files: dict[str, bytes]) -> Image:
    """The image of this machine in an index, with its layers packed by Zstandard, and a layer of files over them."""
    index = json.loads(found.parts[found.digest][1])
    (entry,) = [each for each in index["manifests"] if each["platform"]["architecture"] == machine_architecture()]
    manifest = json.loads(found.parts[entry["digest"]][1])
    layers = [found.parts[each["digest"]][1] for each in manifest["layers"]]
    unpacked = [gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer for layer in layers]
    return make_image([*unpacked, make_layer(files)], architecture=machine_architecture(), zstd=True)


@pytest.fixture
async def world(cloud: LocalCloud, busybox: Image) -> AsyncIterator[World]:
    """A registry that demands a password: busybox with gzip, two images with Zstandard, one that is a volume's."""
    registry = PasswordRegistry(users={"me": "right"})
    await registry.start(cloud.config.host_ip)
    registry.push("team/busybox", "1", busybox)
    registry.push("team/init", "1", pack_zstd_image(busybox, {"who": b"init"}))
    registry.push("team/main", "1", pack_zstd_image(busybox, {"who": b"main"}))
    registry.push("team/data", "1", make_image([make_layer({"who": b"data"})], zstd=True))
    made = World(cloud, registry)
    made.secrets.put("right", registry.host, "right")
    yield made
    await made.close()
    await registry.stop()


def build_parts(world: World, *, volume: bool) -> Json:
    """Its init container ends well only when it has found the files of its own image."""
    host = world.registry.host
    pod = build_pod(f"{host}/team/main:1", "right", "IfNotPresent")
    (main,) = pod["spec"]["containers"]
    check = '[ "$(cat /who)" = {} ]{} && exec sleep 300'
    data = ' && [ "$(cat /data/who)" = data ]' if volume else ""
    main["command"] = ["sh", "-c", check.format("main", data)]
    init = {**main, "name": "init", "image": f"{host}/team/init:1", "command": ["sh", "-c", '[ "$(cat /who)" = init ]']}
    side = {**main, "name": "side", "image": f"{host}/team/busybox:1", "command": ["sleep", "300"]}
    pod["spec"]["initContainers"] = [init, {**side, "restartPolicy": "Always"}]
    pod["spec"]["restartPolicy"] = "Never"
    if volume:
        main["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        image = {"reference": f"{host}/team/data:1", "pullPolicy": "IfNotPresent"}
        pod["spec"]["volumes"] = [{"name": "data", "image": image}]
    return pod


async def run_parts(world: World, *, volume: bool) -> tuple[PodOnInstance, dict[str, str]]:
    """Once all of it runs; imageID by container."""
    started = await world.start(build_parts(world, volume=volume))

    def settled(status: Json) -> bool:
        both = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        return len(both) == 3 and status["phase"] == "Running" and "running" in both[-1]["state"]

    status = await started.until(settled)
    wanted = 3 + volume
    await until(lambda: any(m["type"] == "images" and len(m["images"]) == wanted for m in started.listener.seen), 60)
    await started.settle()
    init, side, main = [*status["initContainerStatuses"], *status["containerStatuses"]]
    assert init["state"]["terminated"]["exitCode"] == 0 and "running" in side["state"]
    return started, {each["name"]: each["imageID"] for each in (init, side, main)}


async def check_before_and_after(world: World, images: int, *, volume: bool) -> None:
    first, pulled = await run_parts(world, volume=volume)
    assert first.store == "" and len(set(pulled.values())) == 3
    assert len([text for text in first.events("Pulled") if text.startswith("Successfully pulled")]) == images
    fetched = world.registry.requests["GET blobs"]
    await world.prepared(1)
    await first.end()

    second, found = await run_parts(world, volume=volume)
    assert second.store and found == pulled
    assert len([text for text in second.events("Pulled") if "already present on machine" in text]) == images
    told = await second.told("ImageFetched", images)
    assert len(told) == images and all("0 bytes from other instances, 0 from the registry; " in text for text in told)
    assert world.registry.requests["GET blobs"] == fetched
    await second.end()


async def test_an_init_container_a_sidecar_and_layers_of_zstandard_before_and_after(world: World) -> None:
    await check_before_and_after(world, 3, volume=False)


async def test_an_image_volume_before_and_after_where_the_runtime_can(world: World) -> None:
    """`make test-containerd2` runs it with a runtime that can; 1.6 says that it cannot."""
    if find_containerd().version >= (2, 1):
        await check_before_and_after(world, 4, volume=True)
        return
    refused = await world.start(build_parts(world, volume=True))
    await refused.listener.wait_for(lambda m: m["type"] == "event" and CANNOT in m["message"], 60)
    (event, *_) = [m for m in refused.listener.seen if m["type"] == "event" and CANNOT in m["message"]]
    assert event["reason"] == "FailedMount"
    await refused.end()
