"""An end of a container that the API takes for final: what comes after it does not hold back the rest of the status."""

from __future__ import annotations

from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.pods.transitions import keep_final_ends

from .rig import World
from .test_lost_updates import ready, report

RUNNING: Json = {"running": {"startedAt": "2026-01-01T00:00:02Z"}}
WAITING: Json = {"waiting": {"reason": "CrashLoopBackOff"}}
RESTART: Json = {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}
RESTART_ALL: Json = {**RESTART, "action": "RestartAllContainers"}


def ended(exit_code: int) -> Json:
    return {"terminated": {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}}


def entry(name: str, state: Json, count: int = 0) -> Json:
    return {
        "name": name,
        "image": "i",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": count,
        "state": state,
    }


@pytest.mark.parametrize("state", [RUNNING, WAITING])
@pytest.mark.parametrize(
    ("policy", "own", "exit_code", "kept"),
    [
        ("Always", {}, 0, False),
        ("OnFailure", {}, 1, False),
        ("OnFailure", {}, 0, True),
        ("Never", {}, 0, True),
        ("Never", {}, 137, True),
        ("Never", {"restartPolicy": "Always"}, 0, False),
        ("Never", {"restartPolicy": "OnFailure"}, 1, False),
        ("Never", {"restartPolicy": "OnFailure"}, 0, True),
        ("Always", {"restartPolicy": "Never"}, 1, True),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [RESTART]}, 3, False),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [RESTART]}, 4, True),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [RESTART_ALL]}, 4, False),
    ],
)
@pytest.mark.parametrize("kind", ["init", "regular"])
def test_an_end_stays_when_the_restart_policy_calls_it_final(
    kind: str, policy: str, own: Json, exit_code: int, kept: bool, state: Json
) -> None:
    listed, field = (
        ("initContainers", "initContainerStatuses") if kind == "init" else ("containers", "containerStatuses")
    )
    pod = {"spec": {"restartPolicy": policy, listed: [{"name": "it", **own}, {"name": "other"}]}}
    held = {field: [entry("it", ended(exit_code)), entry("other", RUNNING)]}
    status = {"phase": "Running", field: [entry("it", state, 1), entry("other", ended(9))]}
    result = keep_final_ends(pod, held, status)
    assert result == {"phase": "Running", field: [(held if kept else status)[field][0], status[field][1]]}


def test_an_ephemeral_container_never_leaves_its_end() -> None:
    pod = {"spec": {"restartPolicy": "Always", "ephemeralContainers": [{"name": "it"}]}}
    held = {"ephemeralContainerStatuses": [entry("it", ended(1))]}
    assert keep_final_ends(pod, held, {"ephemeralContainerStatuses": [entry("it", RUNNING)]}) == held


def test_one_end_after_another_is_no_way_back() -> None:
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "it"}]}}
    status = {"containerStatuses": [entry("it", ended(2), 1)]}
    assert keep_final_ends(pod, {"containerStatuses": [entry("it", ended(1))]}, status) is status
    assert keep_final_ends(pod, None, status) is status


def forbid(world: World, pod: Json) -> list[Json]:
    """The API server's rule for a pod that restarts nothing. Returns what was refused."""
    refused: list[Json] = []

    def refuse(status: Json) -> KubeApiError | None:
        held = {e["name"]: "terminated" in e["state"] for e in world.api.status(pod).get("containerStatuses") or []}
        if any(held.get(e["name"]) and "terminated" not in e["state"] for e in status.get("containerStatuses") or []):
            refused.append(status)
            return KubeApiError(422, "Invalid", "state: Forbidden: may not be transitioned to non-terminated state")
        return None

    world.api.refuse = refuse
    return refused


async def test_a_container_that_runs_again_after_a_final_end_does_not_freeze_the_status(world: World) -> None:
    spec: Any = {
        "restartPolicy": "Never",
        "containers": [{"name": "it", "image": "i"}, {"name": "other", "image": "i"}],
    }
    pod = await world.running(**spec)
    refused = forbid(world, pod)
    conditions = world.api.status(pod)["conditions"]
    unready = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in conditions]

    report(world, pod, containerStatuses=[entry("it", ended(0)), entry("other", RUNNING)], conditions=unready)
    await world.until(lambda: ready(world, pod) == "False")
    report(world, pod, containerStatuses=[entry("it", RUNNING, 1), entry("other", RUNNING, 0)], conditions=conditions)
    await world.until(lambda: ready(world, pod) == "True")
    report(world, pod, containerStatuses=[entry("it", RUNNING, 1), entry("other", ended(4))], conditions=conditions)
    await world.until(lambda: world.api.status(pod)["containerStatuses"][1]["state"] == ended(4))
    assert world.api.status(pod)["containerStatuses"][0] == entry("it", ended(0))
    await world.settle()
    patches = len(world.api.patches)
    record = world.record(pod)
    assert record is not None
    world.controller.wake(record.uid)
    await world.settle()
    assert len(world.api.patches) == patches, "what the API cannot take is not sent again and again"

    report(world, pod, containerStatuses=[entry("it", ended(5), 1), entry("other", ended(4))], conditions=unready)
    await world.until(lambda: world.api.status(pod)["containerStatuses"][0] == entry("it", ended(5), 1))
    assert not refused and "FailedStatusUpdate" not in world.recorder.reasons()


async def test_an_end_that_another_writer_has_made_up_does_not_freeze_the_status(world: World) -> None:
    pod = await world.running(restartPolicy="Never")
    refused = forbid(world, pod)
    conditions = world.api.status(pod)["conditions"]
    unready = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in conditions]
    world.api.set_status(pod, containerStatuses=[entry("c", ended(0))], conditions=unready)
    await world.until(lambda: ready(world, pod) == "True")
    report(world, pod, message="goes on")
    await world.until(lambda: world.api.status(pod).get("message") == "goes on")
    assert not refused
