"""What an agent reports, checked against what the provider knows by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.wire.test_inbound import STATUS
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.pods.agent_report import accept_status

INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "10.0.0.1", "10.0.0.2", 1000.0)
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "uid-1"},
    "spec": {"initContainers": [{"name": "init"}], "containers": [{"name": "c"}]},
}
STATUS_OF_POD = STATUS["status"]


def test_an_honest_status_is_taken_as_it_is() -> None:
    status = {**STATUS_OF_POD, "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}]}
    assert accept_status(status, POD, INSTANCE) == status


@pytest.mark.parametrize("claimed", ["10.0.0.99", "::1"])
def test_the_addresses_are_the_clouds_whatever_the_agent_claims(claimed: str) -> None:
    lie = {**STATUS_OF_POD, "podIP": claimed, "podIPs": [{"ip": claimed}], "hostIP": claimed, "hostIPs": []}
    accepted = accept_status(lie, POD, INSTANCE)
    assert (accepted["podIP"], accepted["podIPs"]) == ("10.0.0.2", [{"ip": "10.0.0.2"}])
    assert (accepted["hostIP"], accepted["hostIPs"]) == ("10.0.0.1", [{"ip": "10.0.0.1"}])
    only_list = {"phase": "Running", "podIPs": [{"ip": claimed}]}
    assert accept_status(only_list, POD, INSTANCE)["podIP"] == "10.0.0.2"
    assert "podIP" not in accept_status(lie, POD, None)


@pytest.mark.parametrize("claimed", [["10.0.0.99"], ["fd00::99", "10.0.0.99"], ["10.0.0.2", "fd00::2", "fd00::99"]])
def test_the_addresses_of_both_families_are_the_clouds_ipv4_first(claimed: list[str]) -> None:
    instance = replace(INSTANCE, primary_ipv6="fd00::1", pod_ipv6="fd00::2")
    lie = {**STATUS_OF_POD, "podIP": claimed[0], "podIPs": [{"ip": each} for each in claimed], "hostIP": "192.0.2.1"}
    accepted = accept_status(lie, POD, instance)
    assert (accepted["podIP"], accepted["podIPs"]) == ("10.0.0.2", [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}])
    assert (accepted["hostIP"], accepted["hostIPs"]) == ("10.0.0.1", [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}])
    in_host = accept_status(lie, {**POD, "spec": {**POD["spec"], "hostNetwork": True}}, instance)
    assert in_host["podIPs"] == in_host["hostIPs"]


def test_a_pod_in_the_hosts_network_has_the_hosts_address() -> None:
    pod = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}
    assert accept_status(STATUS_OF_POD, pod, INSTANCE)["podIP"] == "10.0.0.1"


def test_a_status_without_an_address_gets_none() -> None:
    assert accept_status({"phase": "Pending"}, POD, INSTANCE) == {"phase": "Pending"}


def test_containers_that_the_spec_does_not_have_are_left_out_and_each_counts_once() -> None:
    (container,) = STATUS_OF_POD["containerStatuses"]
    lie = {
        "phase": "Running",
        "containerStatuses": [container, {**container, "ready": False}, {**container, "name": "other"}],
        "initContainerStatuses": [container],
    }
    accepted = accept_status(lie, POD, INSTANCE)
    assert accepted["containerStatuses"] == [container]
    assert accepted["initContainerStatuses"] == []


def test_conditions_of_other_controllers_are_left_out() -> None:
    kinds = ("Ready", "example.com/gate", "vk-provider.io/InstanceSelected", "Ready")
    lie = {"phase": "Running", "conditions": [{"type": kind, "status": "True"} for kind in kinds]}
    accepted = accept_status(lie, POD, INSTANCE)
    assert [condition["type"] for condition in accepted["conditions"]] == ["Ready"]
