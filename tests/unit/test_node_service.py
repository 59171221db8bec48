"""What the settings and the cloud say of a Node."""

from __future__ import annotations

from types import SimpleNamespace

from vk_provider.cloud.base import InstanceRuntime
from vk_provider.jsontypes import Json
from vk_provider.node.object import build_status
from vk_provider.node.spec import NodeSpec
from vk_provider.node_service import Nodes, NodeService, build_spec
from vk_provider.settings import CloudSettings, KubeletSettings, NodeSettings

NODE = NodeSettings("n1", address="192.0.2.1")


def status_with(runtime: InstanceRuntime) -> dict[str, object]:
    return build_status(build_spec(NODE, CloudSettings(), runtime), [], {}, 0.0)


def test_the_node_tells_of_the_runtime_of_its_instances_as_a_kubelet_does() -> None:
    status = status_with(InstanceRuntime("containerd", "2.4.2", ("", "runc"), True, True, True))
    assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.4.2"
    features = {"recursiveReadOnlyMounts": True, "userNamespaces": False}
    assert status["runtimeHandlers"] == [{"name": "", "features": features}, {"name": "runc", "features": features}]
    assert status["features"] == {"supplementalGroupsPolicy": True}


def test_a_runtime_that_cannot_say_what_it_can_do_takes_the_fields_away() -> None:
    status = status_with(InstanceRuntime("containerd", "1.6.20"))
    assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20"
    assert (status["runtimeHandlers"], status["features"]) == (None, None)


def test_the_node_declares_what_its_agents_do_whatever_the_runtime() -> None:
    for runtime in (InstanceRuntime("containerd", "1.6.20"), InstanceRuntime("containerd", "2.4.2", ("",))):
        assert status_with(runtime)["declaredFeatures"] == [
            "InPlacePodLevelResourcesVerticalScaling",
            "InPlacePodVerticalScalingInitContainers",
            "RestartAllContainersOnContainerExits",
        ]


def test_pods_are_admitted_by_the_configured_capacity_although_the_status_has_the_one_of_an_earlier_start() -> None:
    controller, nothing = SimpleNamespace(node=None), SimpleNamespace()
    spec = NodeSpec("n1", "192.0.2.1", {"cpu": "64", "pods": "500"})
    service = NodeService(spec, controller, nothing, KubeletSettings(), nothing)
    nodes = Nodes()
    assert nodes.find_object("n1") is None
    nodes.add(service)
    amounts = {"cpu": "4", "example.com/x": "1"}
    held: Json = {"metadata": {"labels": {"a": "b"}}, "status": {"capacity": amounts, "allocatable": amounts}}
    assert nodes.find_object("n1") is None
    controller.node = held
    node = nodes.find_object("n1")
    assert node is not None and node["metadata"] == held["metadata"]
    assert node["status"]["allocatable"] == {"cpu": "64", "pods": "500", "example.com/x": "1"}
