"""A container that the worker itself stops and starts again, and what of its past stays."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.unit.agent.worker.builders import PROBE, container, pod, sidecar
from tests.unit.agent.worker.workerrig import Rig, WorkerRig, entry_of
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import RuntimeEvent, RuntimeServiceError
from vk_provider.agent.worker.errors import InterruptedByStop
from vk_provider.agent.worker.status import publisher
from vk_provider.jsontypes import Json

ANSWERLESS: Json = {**PROBE, "exec": {"command": ["probe"]}}
HOOK: Json = {"postStart": {"exec": {"command": ["hook"]}}}
BIGGER: Json = {"requests": {"cpu": "20m"}}
RESIZABLE: Json = {
    "resources": {"requests": {"cpu": "10m"}},
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
}
RESTART_ALL = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}


def fail(kind: str) -> Any:
    return lambda rig, name: rig.fail_probe(kind, name)


def resize(rig: WorkerRig, name: str) -> None:
    rig.change(name, resources=BIGGER)
    rig.run._resizer.allocate()


CAUSES: list[Any] = [
    pytest.param({"livenessProbe": ANSWERLESS}, fail("liveness"), id="liveness"),
    pytest.param({"startupProbe": ANSWERLESS}, fail("startup"), id="startup"),
    pytest.param({}, lambda rig, name: rig.change(name, image="busybox:2"), id="image"),
    pytest.param(RESIZABLE, resize, id="resize"),
    pytest.param({"lifecycle": HOOK}, lambda rig, name: rig.change(name, image="busybox:2"), id="postStart"),
]


@pytest.mark.parametrize("exit_code", [0, 137])
@pytest.mark.parametrize("policy", ["OnFailure", "Never", "Always"])
@pytest.mark.parametrize(("fields", "cause"), CAUSES)
@pytest.mark.parametrize("kind", ["regular", "sidecar"])
async def test_the_end_of_a_container_that_starts_again_is_told_with_its_next_start(
    rig: Rig, kind: str, fields: Json, cause: Any, policy: str, exit_code: int
) -> None:
    if kind == "regular":
        by_probe = "livenessProbe" in fields or "startupProbe" in fields
        own = {"restartPolicy": "OnFailure"} if policy == "Never" and by_probe else {}
        world = rig(pod(container("it", **own, **fields), container("other"), policy=policy))
    else:
        world = rig(pod(container("other"), init=[sidecar("it", **fields)], policy=policy))
    world.runtime.exit_code = exit_code
    await world.start()
    if "startupProbe" in fields and kind == "sidecar":
        assert entry_of(world.told.statuses[-1], "it")["started"] is False  # "other" waits for it
    cause(world, "it")
    await world.pass_()
    assert world.told.changes("it") == [("running", 0), ("running", 1)]
    last = entry_of(world.told.statuses[-1], "it")
    assert last["lastState"]["terminated"]["exitCode"] == exit_code
    assert last["containerID"] == f"containerd://{world.id_of('it')}"
    assert {status["phase"] for status in world.told.statuses} == {
        "Pending" if "startupProbe" in fields and kind == "sidecar" else "Running"
    }
    if "startupProbe" not in fields:
        assert world.told.conditions("Ready") == {"True"}


@pytest.mark.parametrize("kind", ["regular", "sidecar"])
async def test_between_its_end_and_its_next_start_a_container_does_not_wait_for_its_creation(
    rig: Rig, kind: str
) -> None:
    it = container("it") if kind == "regular" else sidecar("it")
    world = rig(pod(it, policy="OnFailure") if kind == "regular" else pod(container("other"), init=[it]))
    await world.start()
    world.runtime.end(world.id_of("it"), 3)
    await world.pass_()
    assert world.told.changes("it") == [("running", 0), ("terminated", 0), ("running", 1)]


async def test_a_container_whose_next_image_is_missing_has_ended_as_the_policy_says(rig: Rig) -> None:
    world = rig(pod(container("main", imagePullPolicy="Never"), policy="Never"))
    world.runtime.exit_code = 137
    world.images.missing = {"gone"}
    await world.start()
    world.change("main", image="gone:1")
    await world.pass_()
    assert world.told.changes("main") == [("running", 0), ("terminated", 0)]
    with pytest.raises(InterruptedByStop):
        await world.pass_()


async def test_a_container_that_is_stopped_for_good_has_ended_at_once(rig: Rig) -> None:
    world = rig(pod(container("main", livenessProbe=ANSWERLESS), container("other"), policy="Never"))
    await world.start()
    world.fail_probe("liveness", "main")
    await world.pass_()
    assert world.told.changes("main") == [("running", 0), ("terminated", 0)]


async def test_while_one_container_is_restarted_the_others_are_shown_as_they_are(rig: Rig) -> None:
    world = rig(pod(container("main"), container("other"), policy="OnFailure"))
    await world.start()
    world.change("main", image="busybox:2")
    other, publish = world.id_of("other"), world.runtime.step

    async def end_other() -> None:
        world.runtime.end(other, 3)
        world.runtime.step = publish
        await publish()

    world.runtime.step = end_other
    await world.pass_()
    assert world.told.changes("main") == [("running", 0), ("running", 1)]
    assert world.told.changes("other") == [("running", 0), ("terminated", 0)]
    between = next(s for s in world.told.statuses if "terminated" in entry_of(s, "other")["state"])
    assert entry_of(between, "main")["restartCount"] == 0


async def test_an_observation_that_a_restart_has_overtaken_is_not_told(rig: Rig) -> None:
    world = rig(pod(container("main"), policy="OnFailure"))
    await world.start()
    world.change("main", image="busybox:2")
    gate, asked, listed = asyncio.Event(), asyncio.Event(), world.runtime.list_containers

    async def list_slowly() -> list[pb.Container]:
        answer = await listed()
        if any(c.state == pb.CONTAINER_EXITED for c in answer) and not asked.is_set():
            asked.set()
            await gate.wait()
        return answer

    late: list[asyncio.Task[None]] = []

    async def step() -> None:
        if not late:  # the old container has ended: a status is computed from what is so now, slowly
            late.append(asyncio.create_task(world.publish()))
            await asked.wait()

    world.runtime.list_containers = list_slowly
    world.runtime.step = step
    await world.run._lifecycle.sync()
    gate.set()
    await late[0]
    assert world.told.changes("main") == [("running", 0), ("running", 1)]


@pytest.mark.parametrize("after", ["stop", "create"])
async def test_no_restart_overtakes_a_status_whose_pods_cgroup_is_read_slowly(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    world = rig(pod(container("main"), policy="OnFailure"))
    await world.start()
    world.change("main", image="busybox:2")
    read, over = threading.Event(), threading.Event()

    def read_slowly(*_: Any) -> None:
        read.set()
        assert over.wait(10)

    late: list[asyncio.Task[None]] = []

    async def step() -> None:
        created = any(c.state == pb.CONTAINER_CREATED for c in world.runtime.containers.values())
        if not late and created == (after == "create"):
            monkeypatch.setattr(publisher, "read_pod_config", read_slowly)
            late.append(asyncio.create_task(world.publish()))
            await asyncio.to_thread(read.wait, 10)

    world.runtime.step = step
    await world.run._lifecycle.sync()
    over.set()
    await late[0]
    assert world.told.changes("main") == [("running", 0), ("running", 1)]


@pytest.mark.parametrize(("exit_code", "reason"), [(137, "OOMKilled"), (1, "Error"), (0, "Completed")])
@pytest.mark.parametrize("told_first", [True, False])
async def test_a_container_that_was_killed_for_its_memory_says_so_whenever_the_runtime_learns_of_it(
    rig: Rig, told_first: bool, exit_code: int, reason: str
) -> None:
    world = rig(pod(container("main"), container("other"), policy="Never"))
    await world.start()
    event = RuntimeEvent("oom", world.id_of("main"))
    if told_first:
        world.run.take_event(event)
    world.runtime.end(event.container_id, exit_code)
    await world.publish()
    if not told_first:
        world.run.take_event(event)
        await world.publish()
    assert entry_of(world.told.statuses[-1], "main")["state"]["terminated"]["reason"] == reason


async def test_a_stop_during_a_restart_tells_the_end(rig: Rig) -> None:
    world = rig(pod(container("main"), policy="OnFailure"))
    await world.start()
    world.change("main", image="busybox:2")

    async def stop() -> None:
        world.run._stop.set()

    world.runtime.step = stop
    with pytest.raises(InterruptedByStop):
        await world.pass_()
    assert world.told.changes("main") == [("running", 0), ("terminated", 0)]


@pytest.mark.parametrize("init", [None, [sidecar("side")]])
async def test_a_new_sandbox_shows_its_containers_running_until_they_start_again(
    rig: Rig, init: list[Json] | None
) -> None:
    world = rig(pod(container("main"), init=init, policy="OnFailure"))
    await world.start()
    name = "side" if init else "main"
    world.runtime.sandboxes["sb0"].state = pb.SANDBOX_NOTREADY
    await world.pass_()
    assert world.told.changes(name) == [("running", 0), ("running", 1)]
    assert world.run.observed.history(name)[0].sandbox_id == "sb1"


async def test_what_all_containers_restart_from_is_told_once_for_all_of_them(rig: Rig) -> None:
    cause = container("cause", restartPolicy="Never", restartPolicyRules=[RESTART_ALL])
    world = rig(pod(cause, container("other"), init=[sidecar("side")], policy="Never"))
    world.runtime.exit_code = 137
    await world.start()
    world.runtime.end(world.id_of("cause"), 42)
    await world.pass_()
    for name, before in (("cause", "terminated"), ("other", "running"), ("side", "running")):
        assert world.told.changes(name)[-2:] == [(before, 0), ("waiting", 1)]
    waiting = [
        {e["state"].get("waiting", {}).get("reason") for e in s["containerStatuses"]} for s in world.told.statuses
    ]
    assert all(reasons == {None} or reasons == {"RestartingAllContainers"} for reasons in waiting)
    assert [s for s in waiting if s != {None}]


async def test_a_container_is_not_stopped_while_its_volumes_cannot_be_set_up(rig: Rig) -> None:
    volume = {"name": "v", "configMap": {"name": "gone"}}
    world = rig(pod(container("main"), policy="OnFailure"))
    await world.start()
    world.change("main", image="busybox:2", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    world.memory.api_pod["spec"]["volumes"] = [volume]
    world.memory.volumes_ready = False  # the agent has begun anew
    assert await world.pass_() is not None
    assert world.told.changes("main") == [("running", 0)]
    assert "FailedMount" in world.told.reasons


@pytest.mark.parametrize("beside", [True, False])
async def test_a_sidecar_that_its_probe_kills_is_backed_off(rig: Rig, beside: bool) -> None:
    """Both with a container beside it that crashes, and so has passes of its own, and without."""
    world = rig(pod(container("main"), init=[sidecar("side", livenessProbe=ANSWERLESS)]))
    world.runtime.exit_code = 137
    await world.start()
    for second in range(40):
        world.clock.now += 1
        side, main = world.run.observed.history("side")[0], world.run.observed.history("main")[0]
        if side.state == "running" and second % 3 == 2:
            world.fail_probe("liveness", "side")
        if beside and main.state == "running":
            world.runtime.end(main.id, 1)
        await world.pass_()
    assert entry_of(world.told.statuses[-1], "side")["restartCount"] == 3
    assert "BackOff" in world.told.reasons
    assert entry_of(world.told.statuses[-1], "side")["state"]["waiting"]["reason"] == "CrashLoopBackOff"


@pytest.mark.parametrize("kind", ["sidecar", "init", "regular"])
async def test_the_newest_exited_container_outlives_the_starts_of_others(rig: Rig, kind: str) -> None:
    main, it = container("main"), container("it") if kind != "sidecar" else sidecar("it")
    world = rig(pod(main, it) if kind == "regular" else pod(main, init=[it]))
    if kind == "init":
        await world.pass_()
        world.runtime.end(world.id_of("it"), 1)
        await world.pass_()
        world.runtime.end(world.id_of("it"), 0)
        await world.publish()
        ended = world.id_of("it")
    else:
        await world.start()
        ended = world.id_of("it")
        world.runtime.end(ended, 3)
        await world.pass_()
    for _ in range(5):
        world.clock.now += 400
        await world.pass_()
        if "main" in {record.name for record in world.run.observed.running()}:
            world.runtime.end(world.id_of("main"), 1)
            await world.publish()
    assert ended in world.runtime.containers
    if kind != "init":
        last = entry_of(world.told.statuses[-1], "it")["lastState"]["terminated"]
        assert last["containerID"] == f"containerd://{ended}"
    assert sum(record.name == "main" for record in world.run.observed.containers) <= 3
    assert any(removed.startswith("main") for removed in world.runtime.removed)


async def test_a_container_whose_start_fails_is_looked_at_again_at_once_and_backed_off_after_the_second_time(
    rig: Rig,
) -> None:
    world = rig(pod(container("main")))

    async def fail_to_start(container_id: str) -> None:
        world.runtime.end(container_id, 128)
        await world.runtime.step()
        raise RuntimeServiceError("Unknown", "no such command")

    world.runtime.start_container = fail_to_start
    reasons = []
    for _ in range(3):
        due_s = await world.pass_()
        assert due_s is not None
        reasons.append(
            (entry_of(world.told.statuses[-1], "main")["state"]["waiting"]["reason"], due_s - world.clock.now)
        )
    assert [reason for reason, _ in reasons] == ["RunContainerError", "RunContainerError", "CrashLoopBackOff"]
    assert [round(wait_s) for _, wait_s in reasons] == [1, 1, 10]
