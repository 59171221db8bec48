"""Pods of chance, and what a kubelet 1.37.2 says of their resources: kubelet_1_37_resources.jsonl.

Each line is a case with what the kubelet's own functions returned ("want"): convertToAPIPodLevelResourcesStatus with a
pod's cgroup as read ("config"), PodRequests and ResourceConfigForPod, or the container statuses of
convertToAPIContainerStatuses with what the runtime reports.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vk_provider.agent.worker.rules.observed import ObservedContainer, RuntimeResources, State
from vk_provider.agent.worker.rules.spec import find_ref
from vk_provider.agent.worker.status.resources import build_resources_status
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import ResourceConfig, build_pod_level_resources, build_resource_config

CASES = [json.loads(line) for line in Path(__file__).with_name("kubelet_1_37_resources.jsonl").read_text().splitlines()]


def check_pod(case: Json) -> None:
    pod, want, read = case["pod"], case["want"], case["config"]
    config = read and ResourceConfig(
        read["shares"], read["quota"] if read["quota"] > 0 else None, read["period"], read["memory"] or None
    )
    found = build_pod_level_resources(pod, case["old"], config)
    assert found == {"resources": want["resources"], "allocatedResources": want["allocatedResources"] or {}}
    wanted = build_resource_config(pod)
    assert (wanted.cpu_shares, wanted.cpu_quota, wanted.memory) == (
        want["config"]["shares"],
        want["config"]["quota"] or None,
        want["config"]["memory"] or None,
    )


def check_containers(case: Json) -> None:
    wanted = {status["name"]: status for status in case["want"]["containers"]}
    old = {status["name"]: status for status in case["old"]["containerStatuses"]}
    for seen in case["containers"]:
        name, ref = seen["name"], find_ref(case["pod"], seen["name"])
        assert ref is not None
        fields = ("CPURequest", "CPULimit", "MemoryRequest", "MemoryLimit")
        reported = RuntimeResources(*(seen.get(field) for field in fields)) if seen.get("Reported") else None
        record = ObservedContainer(seen["ID"], name, "sb0", State(seen["State"]), resources=reported)
        resources, allocated = build_resources_status(ref.spec, record, None, old.get(name))
        assert resources == wanted[name]["resources"]
        assert allocated == (wanted[name]["allocatedResources"] or {})


@pytest.mark.parametrize(("kind", "check"), [("pod", check_pod), ("containers", check_containers)])
def test_a_kubelet_says_the_same_of_resources(kind: str, check) -> None:
    cases = [case for case in CASES if case["kind"] == kind]
    assert len(cases) >= 40
    for case in cases:
        check(case)
