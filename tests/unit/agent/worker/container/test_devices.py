"""What CRI is asked for: the devices of a container."""

from __future__ import annotations

from typing import Any

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.worker.container.config import ContainerInputs, build_container_config
from vk_provider.podmodel.security import ContainerSecurity


def container(name: str, gpus: int = 0) -> dict[str, Any]:
    return {"name": name, "image": "i", "resources": {"limits": {"nvidia.com/gpu": gpus}} if gpus else {}}


def test_the_runtime_is_asked_for_the_gpus_of_exactly_the_containers_that_ask() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "containers": [container("train", 2), container("log"), container("serve", 1)],
            "initContainers": [container("warm", 1)],
            "ephemeralContainers": [container("debugger")],
        },
    }
    spec: Any = pod["spec"]
    asked = {}
    for each in (*spec["initContainers"], *spec["containers"], *spec["ephemeralContainers"]):
        config = build_container_config(pod, each, ContainerInputs("i", 0, ContainerSecurity(), []))
        sent = pb.ContainerConfig.FromString(config.SerializeToString())
        asked[each["name"]] = [device.name for device in sent.CDI_devices]
    assert asked == {
        "warm": ["nvidia.com/gpu=0"],
        "train": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
        "log": [],
        "serve": ["nvidia.com/gpu=2"],
        "debugger": [],
    }
