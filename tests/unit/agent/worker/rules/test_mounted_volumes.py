"""Only volumes that a container mounts are set up."""

from __future__ import annotations

from tests.unit.agent.worker.builders import container, pod
from tests.unit.agent.worker.workerrig import Rig
from vk_provider.agent.worker.rules.spec import with_mounted_volumes

ABSENT = {"name": "v", "configMap": {"name": "absent"}}
MOUNTS = [{"name": "v", "mountPath": "/v"}]


async def test_a_volume_that_nobody_mounts_keeps_no_container_from_starting(rig: Rig) -> None:
    made = pod(container("main"))
    made["spec"]["volumes"] = [ABSENT]
    world = rig(made)
    await world.pass_()
    assert world.told.changes("main")[-1] == ("running", 0)
    assert "FailedMount" not in world.told.reasons


async def test_a_volume_that_an_ephemeral_container_mounts_later_is_set_up_then(rig: Rig) -> None:
    made = pod(container("main"))
    made["spec"]["volumes"] = [ABSENT]
    world = rig(made)
    await world.start()
    spec = {**world.memory.api_pod["spec"], "ephemeralContainers": [{**container("debug"), "volumeMounts": MOUNTS}]}
    world.memory.api_pod = {**world.memory.api_pod, "spec": spec}
    await world.pass_()
    assert "FailedMount" in world.told.reasons


def test_mounts_of_every_kind_of_container_count() -> None:
    for field in ("containers", "initContainers", "ephemeralContainers"):
        given = {"spec": {"volumes": [ABSENT, {"name": "w"}], field: [{"name": "c", "volumeMounts": MOUNTS}]}}
        assert [volume["name"] for volume in with_mounted_volumes(given)["spec"]["volumes"]] == ["v"]
