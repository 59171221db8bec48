"""Pods that are deleted, or have ended, when they are first seen, and that no instance has: after a start and later."""

from __future__ import annotations

import pytest

from vk_provider.instances import missing
from vk_provider.jsontypes import Json
from vk_provider.pods import adoption
from vk_provider.pods.record import FirstSight, PodRecord
from vk_provider.pods.state import compute_state, next_look_s
from vk_provider.pods.unlocated import is_untold

from .rig import NODE, World
from .unlocated import THEN, ended, runs, told, waits

UNKNOWN = "ContainerStatusUnknown"
TOO_LARGE = [{"name": "c", "resources": {"requests": {"cpu": "101"}}}]
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(autouse=True)
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A finalizer keeps every object. The paths of DELETEs."""
    asked: list[str] = []

    async def delete(path: str, body: Json) -> None:
        asked.append(path)

    monkeypatch.setattr(world.api, "delete", delete)
    return asked


def made(world: World, status: Json, *, deleted: bool = False, **spec: object) -> Json:
    """A pod with the container c as the API server has it."""
    pod = world.pod(**spec)
    pod["status"] = status
    if deleted:
        pod["metadata"] |= {"deletionTimestamp": THEN, "deletionGracePeriodSeconds": 30, "generation": 2}
    return pod


def phase_of(world: World, pod: Json) -> tuple[str | None, str | None]:
    status = world.api.status(pod)
    return status.get("phase"), status.get("reason")


def reason_of(world: World, pod: Json) -> str | None:
    (item,) = world.api.status(pod)["containerStatuses"]
    found: str | None = (item["state"].get("terminated") or {}).get("reason")
    return found


async def see(world: World, pod: Json, restart: str) -> None:
    """As a new pod, or after a restart."""
    if restart == "later":
        world.api.add(pod)
        return
    await world.crash()
    world.api.add(pod)
    await world.start()


STATUSES = {
    "nothing": ({"phase": "Pending"}, "Failed", UNKNOWN),
    "waits": (told("Pending", [waits("c", "ImagePullBackOff")]), "Failed", UNKNOWN),
    "succeeded": (told("Running", [ended("c", 0, containerID="")]), "Succeeded", "Completed"),
    "failed": (told("Running", [ended("c", 3, containerID="")]), "Failed", "Error"),
}


@pytest.mark.parametrize("when", ["later", "after a restart"])
@pytest.mark.parametrize("policy", ["Always", "Never"])
@pytest.mark.parametrize("name", STATUSES)
async def test_a_pod_that_is_deleted_already_ends_as_its_containers_did(
    world: World, monkeypatch: pytest.MonkeyPatch, held: list[str], name: str, policy: str, when: str
) -> None:
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.05)
    status, phase, reason = STATUSES[name]
    pod = made(world, status, deleted=True, restartPolicy=policy)
    await see(world, pod, when)
    await world.until(lambda: held)
    await world.settle()
    assert (phase_of(world, pod), reason_of(world, pod)) == ((phase, None), reason)
    assert (len(held), world.live(), world.recorder.reasons()) == (1, [], []), "a kubelet has no event for it"


@pytest.mark.parametrize("when", ["later", "after a restart"])
async def test_a_pod_that_is_deleted_already_and_past_its_deadline_fails_for_that(
    world: World, held: list[str], when: str
) -> None:
    """ShouldEvict in generateAPIPodStatus."""
    pod = made(world, told("Pending", [waits("c")]), deleted=True, activeDeadlineSeconds=5)
    await see(world, pod, when)
    await world.until(lambda: held)
    await world.settle()
    assert (phase_of(world, pod), reason_of(world, pod)) == (("Failed", "DeadlineExceeded"), UNKNOWN)
    assert world.recorder.reasons() == ["DeadlineExceeded"]


async def test_a_deleted_pod_that_still_ran_and_whose_instance_is_gone_has_lost_it(
    world: World, monkeypatch: pytest.MonkeyPatch, held: list[str]
) -> None:
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.05)
    pod = made(world, told("Running", [runs("c")], ready="True"), deleted=True)
    await see(world, pod, "after a restart")
    await world.until(lambda: held)
    await world.settle()
    assert (phase_of(world, pod), reason_of(world, pod)) == (("Failed", "InstanceTerminated"), UNKNOWN)


@pytest.mark.parametrize("when", ["later", "after a restart"])
async def test_a_pod_that_is_deleted_already_is_refused_where_there_is_no_room_for_it(
    world: World, held: list[str], when: str
) -> None:
    """HandlePodAdditions admits before the pod worker sees the deletion."""
    pod = made(world, {"phase": "Pending"}, deleted=True, containers=TOO_LARGE)
    await see(world, pod, when)
    await world.until(lambda: held)
    await world.settle()
    assert (phase_of(world, pod), reason_of(world, pod)) == (("Failed", "OutOfcpu"), UNKNOWN)
    assert world.recorder.reasons() == ["OutOfcpu"]


@pytest.mark.parametrize("when", ["later", "after a restart"])
@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_has_ended_says_so_of_its_containers(world: World, phase: str, when: str) -> None:
    pod = made(world, told(phase, [runs("c")], ready="True", reason="Odd"))
    await see(world, pod, when)
    await world.until(lambda: reason_of(world, pod) == UNKNOWN)
    await world.settle()
    conditions = {item["type"]: item["status"] for item in world.api.status(pod)["conditions"]}
    assert phase_of(world, pod) == (phase, "Odd")
    assert conditions["Ready"] == conditions["ContainersReady"] == "False"
    assert (len(world.api.patches), world.live(), world.recorder.reasons()) == (1, [], [])


async def test_a_rejected_pod_gets_its_full_status_with_the_next_start_and_once(world: World) -> None:
    pod = world.api.add(world.pod(containers=TOO_LARGE, activeDeadlineSeconds=1000))
    await world.until(lambda: phase_of(world, pod) == ("Failed", "OutOfcpu"))
    await world.settle()
    assert "containerStatuses" not in world.api.status(pod)
    for _ in range(2):
        await world.crash()
        await world.start()
        await world.until(lambda: "containerStatuses" in world.api.status(pod))
        await world.settle()
        assert (phase_of(world, pod), reason_of(world, pod)) == (("Failed", "OutOfcpu"), UNKNOWN)
        assert len(world.api.patches) == 2, "one for the rejection, one for the rest"
    record = world.record(pod)
    assert record is not None
    state = compute_state(record, 1e9, 40.0)
    assert not state.expired and next_look_s(record, state, 0.0, 0.0, 40.0) is None, "its deadline is nobody's business"


async def test_a_pod_that_has_ended_well_is_left_as_it_is(world: World) -> None:
    """A kubelet takes its addresses away, and names a deadline that has passed meanwhile as the reason."""
    places = {
        "hostIP": "10.0.0.5",
        "hostIPs": [{"ip": "10.0.0.5"}],
        "podIP": "10.1.0.5",
        "podIPs": [{"ip": "10.1.0.5"}],
    }
    pod = made(world, told("Succeeded", [ended("c", 0)], **places), restartPolicy="Never", activeDeadlineSeconds=1)
    await see(world, pod, "after a restart")
    await world.settle()
    assert world.api.patches == [] and world.recorder.reasons() == []
    assert world.controller._workers._timers.keys() <= set(), "nothing is looked at again by the clock"


async def test_what_an_agent_has_told_last_is_not_made_up_for(world: World) -> None:
    """Its init container ended well because it was stopped, so the container behind it never had its turn."""
    told_last = told("Failed", [waits("c", "PodInitializing")], [ended("i", 0)])
    pod = world.pod(initContainers=[{"name": "i", "image": "i"}])
    record = PodRecord(pod["metadata"]["uid"], NODE, pod)
    record.report.take(told_last, finished=True)
    for first in (FirstSight(), FirstSight("Failed", {"phase": "Failed"})):
        record.see_first(first)
        pod["metadata"]["deletionTimestamp"] = THEN
        assert is_untold(pod, told_last) and not compute_state(record, 1e9, 40.0).status.untold


async def test_a_deleted_pod_without_a_start_time_that_has_ended_goes(world: World, held: list[str]) -> None:
    status = told("Failed", [ended("c", 1)])
    del status["startTime"]
    await see(world, made(world, status, deleted=True), "later")
    await world.until(lambda: held)


async def test_a_phase_without_a_start_time_keeps_the_ends_that_others_told(world: World) -> None:
    status = told("Succeeded", [ended("c", 0), runs("d")])
    del status["startTime"]
    pod = made(world, status, containers=[{"name": "c", "image": "i"}, {"name": "d", "image": "i"}])
    await see(world, pod, "after a restart")
    await world.until(lambda: world.api.patches)
    await world.settle()
    ends = [item["state"]["terminated"]["exitCode"] for item in world.api.status(pod)["containerStatuses"]]
    assert (ends, bool(world.api.status(pod)["startTime"]), len(world.api.patches)) == ([0, 137], True, 1)


async def test_thousands_that_have_ended_are_told_one_after_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "TOLD_PER_S", 0.001)
    await world.crash()
    pods = [world.api.add(made(world, told("Failed", [runs("c")]))) for _ in range(3)]
    fine = world.api.add(made(world, told("Failed", [ended("c", 1)])))
    await world.start()
    await world.until(lambda: world.api.patches)
    await world.settle()
    assert len(world.api.patches) == 1
    records = [record for pod in pods if (record := world.record(pod)) is not None]
    at = sorted(record.leaving.tell_at for record in records)
    assert [round(moment - at[0]) for moment in at] == [0, 1000, 2000]
    assert len(world.controller._workers._timers) == 2
    other = world.record(fine)
    assert other is not None and not other.leaving.tell_at
    world.api.mark_deleting(pods[-1])
    await world.until(lambda: reason_of(world, pods[-1]) == UNKNOWN)
