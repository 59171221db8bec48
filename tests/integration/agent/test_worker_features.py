"""What containerd 2 can do and 1.6 cannot: it works on the one and is an error in the kubelet's words on the other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.agent.private_containerd import BUSYBOX_IMAGE, PrivateContainerd
from tests.integration.agent.worker_harness import WorkerHarness, container, make_harness, pod
from vk_provider.agent.runtime import ContainerRuntime

pytestmark = pytest.mark.real


@pytest.fixture
async def harness(runtime: ContainerRuntime, containerd: PrivateContainerd) -> AsyncIterator[WorkerHarness]:
    async for each in make_harness(runtime, containerd):
        yield each


READ_IMAGE = "cat /img/etc/passwd > /dev/termination-log; touch /img/x 2>/dev/null && echo writable; exit 0"


async def version_of(harness: WorkerHarness) -> tuple[int, int]:
    found = re.search(r"(\d+)\.(\d+)", (await harness.runtime.version()).runtime_version)
    assert found is not None
    return int(found[1]), int(found[2])


def message_of(status: dict[str, Any]) -> str:
    return str(status["containerStatuses"][0]["state"]["terminated"].get("message", ""))


async def test_an_image_is_a_volume(harness: WorkerHarness) -> None:
    mount = {"name": "img", "mountPath": "/img", "readOnly": True}
    volume = {"name": "img", "image": {"reference": BUSYBOX_IMAGE, "pullPolicy": "IfNotPresent"}}
    main = container("main", READ_IMAGE, volumeMounts=[mount])
    harness.send(pod(main, restartPolicy="Never", volumes=[volume]))
    if await version_of(harness) < (2, 1):
        event = await harness.wait_event("FailedMount")
        assert "cannot mount image volumes" in event["message"]
        return
    assert "root:" in message_of(await harness.wait_finished())


async def test_the_image_of_a_volume_that_does_not_exist_is_told_as_a_containers(harness: WorkerHarness) -> None:
    volume = {"name": "img", "image": {"reference": "127.0.0.1:9/none:1", "pullPolicy": "Always"}}
    main = container("main", volumeMounts=[{"name": "img", "mountPath": "/img"}])
    harness.send(pod(main, volumes=[volume]))
    if await version_of(harness) < (2, 1):
        await harness.wait_event("FailedMount")
        return
    waiting = ("ErrImagePull", "ImagePullBackOff")
    await harness.wait_for(lambda status: _waiting_reason(status) in waiting)
    assert {"Pulling", "Failed"} <= set(harness.outbox.reasons())


async def test_groups_of_the_image_are_left_out_by_the_strict_policy(harness: WorkerHarness) -> None:
    security = {"supplementalGroupsPolicy": "Strict", "supplementalGroups": [4321]}
    harness.send(
        pod(container("main", "id -G > /dev/termination-log"), restartPolicy="Never", securityContext=security)
    )
    groups = message_of(await harness.wait_finished()).split()
    assert "4321" in groups
    if await version_of(harness) >= (2, 0):
        assert groups == ["0", "4321"]


async def test_recursive_read_only_mounts_need_a_handler_that_has_them(harness: WorkerHarness) -> None:
    mount = {"name": "data", "mountPath": "/data", "readOnly": True, "recursiveReadOnly": "Enabled"}
    main = container("main", "touch /data/x || echo refused > /dev/termination-log", volumeMounts=[mount])
    harness.send(pod(main, restartPolicy="Never", volumes=[{"name": "data", "emptyDir": {}}]))
    if (await harness.runtime.handler_features()).recursive_read_only_mounts:
        assert message_of(await harness.wait_finished()).strip() == "refused"
        return
    assert await version_of(harness) < (2, 0)
    await harness.wait_for(lambda status: _waiting_reason(status) == "CreateContainerConfigError")


def _waiting_reason(status: dict[str, Any]) -> str:
    statuses = status.get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))
