"""Pods that ask for GPUs: none is launched for where their containers would get none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.unit.pods.rig import World
from vk_provider.cloud.aws.cloud import NO_GPUS
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.base import offering_key
from vk_provider.jsontypes import Json
from vk_provider.podmodel.gpus import GPU


def make_world(directory: Path, no_gpus: str) -> World:
    """A cloud that has an instance type with GPUs, and a Node whose capacity names them."""
    world = World(directory)
    plain = world.cloud._offerings[-1]
    world.cloud._offerings = [plain, replace(plain, instance_type="g5.xlarge", gpus=4, price_per_hour=1.0)]
    world.cloud._by_key = {offering_key(each): each for each in world.cloud._offerings}
    world.node = {"metadata": {"labels": {}}, "status": {"allocatable": {"cpu": "100", "pods": "50", GPU: "8"}}}
    world.runtime = replace(world.runtime, no_gpus=no_gpus)
    return world


def pod_with_gpus(world: World) -> Json:
    pod = world.pod()
    pod["spec"]["containers"].append({"name": "gpu", "image": "i", "resources": {"limits": {GPU: "1"}}})
    pod["spec"]["containers"][1]["resources"]["requests"] = {GPU: "1"}
    return pod


async def test_where_the_images_are_not_said_to_have_them_the_pod_is_refused_before_any_launch(tmp_path: Path) -> None:
    assert f"cloud.aws.{next(n for n in AwsCloudSettings.__slots__ if 'gpu' in n)}" in NO_GPUS
    world = make_world(tmp_path, NO_GPUS)
    await world.start()
    pod = world.api.add(pod_with_gpus(world))
    await world.until(lambda: world.api.status(pod).get("phase") == "Failed")
    status = world.api.status(pod)
    assert status["reason"] == "PodFeatureUnsupported"
    for text in (status["message"], dict(world.recorder.events)["PodFeatureUnsupported"]):
        assert GPU in text and "cloud.aws.nvidia_gpus" in text
    await asyncio.sleep(0.05)
    assert world.live() == []
    await world.running()  # who asks for none is not held up
    await world.stop()


async def test_where_they_are_the_pod_gets_an_instance_that_has_as_many(tmp_path: Path) -> None:
    world = make_world(tmp_path, "")
    await world.start()
    pod = world.api.add(pod_with_gpus(world))
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert [each.instance_type for each in world.live_of(pod)] == ["g5.xlarge"]
    await world.stop()


async def test_a_cloud_that_says_nothing_of_gpus_gives_containers_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.runtime.no_gpus
    await world.start()
    pod = world.api.add(pod_with_gpus(world))
    await world.until(lambda: world.api.status(pod).get("phase") == "Failed")
    assert GPU in world.api.status(pod)["message"] and world.live() == []
    await world.stop()
