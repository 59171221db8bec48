"""What others have put on a Node beside its own resources."""

from __future__ import annotations

from vk_provider.node.resources import allocatable_of, build_resources
from vk_provider.node.spec import NodeSpec
from vk_provider.podmodel.extendedresources import is_extended_resource

OWN = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "1Ti", "nvidia.com/gpu": "2"}
SPEC = NodeSpec("n1", "10.0.0.1", dict(OWN))


def test_foreign_capacity_is_copied_to_allocatable_and_left_to_its_writer() -> None:
    previous = {"capacity": {**OWN, "example.com/dongle": "4"}, "allocatable": dict(OWN)}
    assert build_resources(SPEC, previous) == (OWN, {**OWN, "example.com/dongle": "4"})
    assert allocatable_of(SPEC, previous) == {**OWN, "example.com/dongle": "4"}


def test_foreign_capacity_outlives_a_restart_and_the_nodes_own_follows_the_configuration() -> None:
    previous = {"capacity": {"cpu": "1", "example.com/dongle": "4"}, "allocatable": {"cpu": "1"}}
    assert build_resources(SPEC, previous) == (OWN, {**OWN, "example.com/dongle": "4"})


def test_an_extended_resource_without_capacity_is_not_allocatable() -> None:
    previous = {"capacity": dict(OWN), "allocatable": {**OWN, "example.com/dongle": "4", "other": "1"}}
    assert build_resources(SPEC, previous)[1] == {**OWN, "example.com/dongle": None}
    assert allocatable_of(SPEC, previous) == {**OWN, "other": "1"}


def test_huge_pages_of_others_are_taken_away() -> None:
    previous = {"capacity": {**OWN, "hugepages-2Mi": "4Mi"}, "allocatable": {**OWN, "hugepages-2Mi": "4Mi"}}
    capacity, allocatable = build_resources(SPEC, previous)
    assert capacity["hugepages-2Mi"] is None and allocatable["hugepages-2Mi"] is None


def test_extended_resources_are_those_outside_of_kubernetes_own_domain() -> None:
    assert is_extended_resource("scheduling.k8s.io/foo") and is_extended_resource("nvidia.com/gpu")
    for name in ("cpu", "hugepages-2Mi", "kubernetes.io/x", "node.kubernetes.io/x", "requests.nvidia.com/gpu"):
        assert not is_extended_resource(name)
