"""Extended resources that an administrator advertises on a Node: the scheduler hands them out, by priority."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.manifest import container, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

DONGLE = "example.com/dongle"
PRIORITIES = {"e2e-low": 1, "e2e-high": 1000}


def advertise(nodeless: Nodeless, operation: str, amount: str = "") -> None:
    """As the task page "Advertise Extended Resources for a Node" does it."""
    change = [{"op": operation, "path": f"/status/capacity/{DONGLE.replace('/', '~1')}", "value": amount}]
    patch = ("patch", "node", nodeless.node, "--subresource=status", "--type=json", "-p", json.dumps(change))
    nodeless.kubectl(*patch)


def allocatable(nodeless: Nodeless) -> str:
    return str(nodeless.get("node", nodeless.node)["status"]["allocatable"].get(DONGLE, ""))


def wanting(nodeless: Nodeless, name: str, amount: int, **fields: object) -> Json:
    resources = {kind: {"cpu": "100m", "memory": "64Mi", DONGLE: str(amount)} for kind in ("requests", "limits")}
    return pod(name, container(nodeless.image, resources=resources), **fields)


@pytest.fixture(scope="module", autouse=True)
def dongles(nodeless: Nodeless) -> Iterator[None]:
    for name, value in PRIORITIES.items():
        nodeless.kubectl("create", "priorityclass", name, f"--value={value}")
    advertise(nodeless, "add", "3")
    until("the resource is allocatable", lambda: allocatable(nodeless) == "3", 10)
    try:
        yield
    finally:
        advertise(nodeless, "remove")
        until("the resource is gone", lambda: allocatable(nodeless) == "", 20)
        for name in PRIORITIES:
            nodeless.kubectl("delete", "priorityclass", name, "--ignore-not-found", check=False)


def test_a_pod_with_a_higher_priority_takes_the_place_of_one_with_a_lower(
    namespace: Namespace, nodeless: Nodeless
) -> None:
    namespace.apply(
        wanting(nodeless, "victim", 2, priorityClassName="e2e-low"),
        wanting(nodeless, "bystander", 1, priorityClassName="e2e-low"),
    )
    namespace.wait_ready("victim", "bystander")
    assert "dongle" not in namespace.wait_event("victim", "InstanceLaunched")["message"], "no type was asked for it"
    namespace.apply(wanting(nodeless, "preemptor", 2, priorityClassName="e2e-high"))
    namespace.wait_ready("preemptor")
    namespace.wait_event("victim", "Preempted")
    assert namespace.kubectl("get", "pod", "victim", check=False).returncode != 0
    namespace.wait_ready("bystander")


def test_a_pod_that_no_scheduler_counted_is_refused_as_a_kubelet_does_it(
    namespace: Namespace, nodeless: Nodeless
) -> None:
    namespace.wait_ready("preemptor")
    namespace.apply(wanting(nodeless, "intruder", 1, nodeName=nodeless.node))
    failed = namespace.wait_phase("intruder", "Failed")
    assert failed["status"]["reason"] == f"OutOf{DONGLE}"
    wanted = f"Node didn't have enough resource: {DONGLE}, requested: 1, used: 3, capacity: 3"
    assert failed["status"]["message"] == f"Pod was rejected: {wanted}"


def test_what_an_administrator_advertised_survives_a_restart_of_the_provider(
    namespace: Namespace, nodeless: Nodeless
) -> None:
    nodeless.stop_provider()
    nodeless.start_provider()
    assert allocatable(nodeless) == "3"
    namespace.wait_ready("preemptor", "bystander")
    namespace.apply(wanting(nodeless, "later", 1, nodeName=nodeless.node))
    assert namespace.wait_phase("later", "Failed")["status"]["reason"] == f"OutOf{DONGLE}"
