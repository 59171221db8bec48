"""In-place resizes: what is allocated, in which order it is carried out, conditions and events (KEP-1287, KEP-5419)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, exited, observed, pod, running
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import RuntimeServiceError
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.resizer import Resizer
from vk_provider.agent.worker.rules.core import compute_actions
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.rules.resize import plan_resize, with_resource
from vk_provider.agent.worker.sandbox.cgroups import read_pod_config, write_pod_config
from vk_provider.jsontypes import Json
from vk_provider.podmodel.podresources import ResourceConfig, build_resource_config, inherit_limits
from vk_provider.wire.session import NodeFacts, PodMessage

NODE = NodeFacts(name="n", allocatable={"cpu": "4", "memory": "4Gi"}, clusterDNS=[], clusterDomain="cluster.local")
PARENT = "/kubepods/podu1"
MI = 1 << 20


def limited(name: str = "main", cpu: str = "100m", memory: str = "64Mi", **fields: Any) -> Json:
    amounts = {"cpu": cpu, "memory": memory}
    return container(name, resources={"requests": amounts, "limits": amounts}, **fields)


class Runtime:
    """Notes how wide the pod's cgroup is while a container is updated; `refuses` names a field that it refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.updates: list[tuple[str, int, int, ResourceConfig | None]] = []
        self.shares: list[int] = []
        self.refuses = ""
        self.usage = 4096

    async def update_container_resources(self, container_id: str, resources: pb.LinuxContainerResources) -> None:
        if self.refuses:
            raise RuntimeServiceError("Unknown", self.refuses)
        self.shares.append(resources.cpu_shares)
        self.updates.append(
            (container_id, resources.cpu_quota, resources.memory_limit_in_bytes, read_pod_config(PARENT, self.root))
        )

    async def list_container_stats(self, sandbox_id: str) -> list[pb.ContainerStats]:
        stats = [pb.ContainerStats(attributes=pb.ContainerAttributes(id=f"{name}-10")) for name in ("main", "side")]
        for each in stats:
            each.memory.usage_bytes.value = self.usage
        return stats


class Resize:
    """A pod that runs with its first resources; `to` is the next generation of it."""

    def __init__(self, root: Path, first: Json) -> None:
        self.memory = PodMemory.from_message(PodMessage(type="pod", pod=first, references={}, services=[], node=NODE))
        self.runtime = Runtime(root)
        self.events: list[tuple[str, Json]] = []
        self.forgotten: list[str] = []
        recorder = Recorder(self, "u1")
        runtime: Any = self.runtime
        self.resizer = Resizer(runtime, recorder, self.memory, self.forgotten.append, root)
        for each in (*first["spec"]["containers"], *first["spec"].get("initContainers", [])):
            self.memory.resize.actuated[each["name"]] = inherit_limits(first, each)
        for controller in ("cpu", "memory"):
            (root / controller).mkdir(exist_ok=True)
        write_pod_config(PARENT, build_resource_config(first), root)
        (root / "memory" / PARENT.strip("/") / "memory.usage_in_bytes").write_text("8192")

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.events.append((reason, json.loads(message.partition(": ")[2])))

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]

    def to(self, *containers: Json, generation: int = 2, **spec: Any) -> None:
        self.memory.api_pod = pod(*containers, **spec)
        self.memory.api_pod["metadata"]["generation"] = generation
        self.resizer.allocate()

    async def apply(self, seen: Observation) -> None:
        initialized = compute_actions(self.memory.pod, seen, ProbeResults()).initialized
        await self.resizer.apply(self.resizer.plan(seen), seen, initialized=initialized)

    def conditions(self) -> dict[str, tuple[str, int]]:
        return {
            each["type"]: (each.get("reason", ""), each["observedGeneration"]) for each in self.memory.resize.conditions
        }


async def test_the_pod_grows_before_its_containers_and_shrinks_after_them(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(limited(cpu="100m", memory="64Mi")))
    resize.to(limited(cpu="200m", memory="32Mi"))
    assert resize.conditions() == {"PodResizeInProgress": ("", 2)}
    await resize.apply(observed(running(limited())))
    first, last = ResourceConfig(102, 10_000, 100_000, 64 * MI), ResourceConfig(204, 20_000, 100_000, 32 * MI)
    assert resize.runtime.updates == [
        ("main-10", 10_000, 32 * MI, first),  # memory alone, in a pod as wide as before
        ("main-10", 20_000, 32 * MI, last),  # then CPU, in a pod that is wide enough
    ]
    assert read_pod_config(PARENT, tmp_path) == last
    assert resize.conditions() == {} and resize.reasons == ["ResizeStarted", "ResizeCompleted"]
    assert resize.events[-1][1]["generation"] == 2
    assert resize.forgotten == ["main-10", "main-10"]


async def test_a_pod_level_resize_reaches_the_pod_and_containers_without_limits_of_their_own(tmp_path: Path) -> None:
    def at(cpu: str, memory: str) -> Json:
        return {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": cpu, "memory": memory}}

    own = limited("side", cpu="50m", memory="16Mi")
    resize = Resize(tmp_path, pod(container("main"), own, resources=at("100m", "64Mi")))
    resize.to(container("main"), own, resources=at("200m", "128Mi"))
    seen = observed(running(container("main")), running(own))
    await resize.apply(seen)
    wide = ResourceConfig(20, 20_000, 100_000, 128 * MI)
    assert resize.runtime.updates == [
        ("main-10", 10_000, 128 * MI, replace(wide, cpu_quota=10_000)),
        ("main-10", 20_000, 128 * MI, wide),
    ]
    assert read_pod_config(PARENT, tmp_path) == wide
    assert resize.memory.resize.actuated_pod == at("200m", "128Mi") and resize.conditions() == {}
    assert resize.memory.pod["spec"]["resources"] == at("200m", "128Mi")


@pytest.mark.parametrize(
    ("own", "to", "shares"),
    [
        ({"limits": {"cpu": "100m"}}, {"limits": {"cpu": "200m"}}, [2]),
        ({"limits": {"memory": "64Mi"}}, {"limits": {"memory": "96Mi"}}, [2]),
        ({"requests": {"cpu": "50m"}}, {"requests": {"cpu": "100m"}}, [102]),
        ({"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}}, {"limits": {"memory": "96Mi"}}, [51, 2]),
    ],
)
async def test_an_update_asks_for_no_cpu_where_the_container_asks_for_none(
    own: Json, to: Json, shares: list[int], tmp_path: Path
) -> None:
    """Created, it has the shares of its limit, or of the pod's."""
    limits = {"resources": {"limits": {"cpu": "400m", "memory": "128Mi"}}}
    resize = Resize(tmp_path, pod(container("main", resources=own), **limits))
    changed = container("main", resources=to)
    resize.to(changed, **limits)
    await resize.apply(observed(running(changed)))
    assert resize.runtime.shares == shares
    assert resize.reasons == ["ResizeStarted", "ResizeCompleted"]


async def test_a_running_init_container_is_resized_and_the_pod_counts_once_it_has_begun(tmp_path: Path) -> None:
    init, main = limited("init", cpu="100m"), limited()
    resize = Resize(tmp_path, pod(main, init=[init], resources={"limits": {"cpu": "1"}}))
    bigger = limited("init", cpu="300m")
    resize.to(main, init=[bigger], resources={"limits": {"cpu": "2"}})
    await resize.apply(observed(running(init)))
    assert [update[:2] for update in resize.runtime.updates] == [("init-10", 30_000)]
    assert resize.conditions() == {"PodResizeInProgress": ("", 2)}, "the init containers are not done"
    await resize.apply(observed(exited(init), running(main)))
    assert resize.conditions() == {} and resize.reasons == ["ResizeStarted", "ResizeCompleted"]


async def test_the_pod_counts_as_resized_while_a_container_behind_a_sidecar_waits_for_its_config_map(
    tmp_path: Path,
) -> None:
    side, main = {**container("side"), "restartPolicy": "Always"}, container("main")
    resize = Resize(tmp_path, pod(main, init=[side], resources={"limits": {"cpu": "100m"}}))
    resize.to(main, init=[side], resources={"limits": {"cpu": "200m"}})
    await resize.apply(observed())
    assert resize.conditions() == {"PodResizeInProgress": ("", 2)}, "the sidecar does not run yet"
    await resize.apply(observed(running(side)))
    assert resize.conditions() == {} and resize.reasons == ["ResizeStarted", "ResizeCompleted"]


async def test_a_pod_whose_sandbox_is_older_than_its_resize_is_widened_before_containers_start(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(container("main"), resources=limits("100m", "64Mi")))
    first = read_pod_config(PARENT, tmp_path)
    await resize.resizer.widen()
    assert read_pod_config(PARENT, tmp_path) == first, "nothing is resized"
    resize.to(container("main"), resources=limits("200m", "32Mi"))
    await resize.resizer.widen()
    assert first is not None
    assert read_pod_config(PARENT, tmp_path) == replace(first, cpu_quota=20_000), "it only grows"
    assert resize.conditions() == {"PodResizeInProgress": ("", 2)}


def limits(cpu: str, memory: str) -> Json:
    return {"limits": {"cpu": cpu, "memory": memory}}


async def test_a_pod_limit_below_what_the_pod_uses_is_an_error_of_the_resize_that_started(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(container("main"), resources={"limits": {"memory": "1Mi"}}))
    resize.to(container("main"), resources={"limits": {"memory": "8Ki"}})
    seen = observed(running(container("main")))
    await resize.apply(seen)
    assert resize.runtime.updates == [] and resize.conditions() == {"PodResizeInProgress": ("Error", 2)}
    assert "attempting to set pod memory limit (8192) below current usage (8192)" in resize.events[-1][1]["error"]
    # A later generation that cannot be allocated does not take the condition over.
    resize.to(container("main"), generation=3, resources={"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}})
    resize.runtime.usage = 5000
    await resize.apply(seen)
    assert resize.conditions() == {"PodResizeInProgress": ("Error", 2), "PodResizePending": ("Infeasible", 3)}
    assert resize.reasons == ["ResizeStarted", "ResizeError", "ResizeInfeasible"], "the same error is told once"
    assert [event["generation"] for _, event in resize.events] == [2, 2, 3]


async def test_a_resize_that_the_runtime_refuses_is_an_error_and_tried_again(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(limited()))
    resize.to(limited(cpu="200m"))
    (started,) = resize.memory.resize.conditions
    started["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    resize.runtime.refuses = "busy"
    await resize.apply(observed(running(limited())))
    (failed,) = resize.memory.resize.conditions
    assert (failed["reason"], failed["status"]) == ("Error", "True") and "busy" in failed["message"]
    assert failed["lastTransitionTime"] > started["lastTransitionTime"], "a new reason is a transition"
    resize.runtime.refuses = ""
    await resize.apply(observed(running(limited())))
    assert resize.conditions() == {} and resize.reasons == ["ResizeStarted", "ResizeError", "ResizeCompleted"]


async def test_a_container_that_does_not_run_finds_a_pod_that_is_wide_enough(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(limited()))
    resize.to(limited(cpu="300m", memory="128Mi"))
    await resize.apply(observed(exited(limited(), 1)))
    assert read_pod_config(PARENT, tmp_path) == ResourceConfig(307, 30_000, 100_000, 128 * MI)
    assert resize.conditions() == {} and resize.runtime.updates == []


def test_a_resize_that_the_instance_cannot_hold_waits_and_is_dropped_when_it_is_taken_back(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(limited()))
    resize.to(limited(cpu="5"))
    resize.resizer.allocate()
    assert resize.conditions() == {"PodResizePending": ("Infeasible", 2)} and resize.reasons == ["ResizeInfeasible"]
    assert resize.events[0][1]["error"] == "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"
    assert resize.memory.pod["spec"]["containers"][0]["resources"] == limited()["resources"]
    resize.to(limited(), generation=3)
    assert resize.conditions() == {} and resize.reasons == ["ResizeInfeasible"]


def test_what_was_allocated_at_pod_level_survives_the_agent(tmp_path: Path) -> None:
    resize = Resize(tmp_path, pod(container("main"), resources={"limits": {"cpu": "1"}}))
    resize.to(container("main"), resources={"limits": {"cpu": "2"}})
    again = PodMemory.from_document(json.loads(json.dumps(resize.memory.to_document())))
    assert again is not None and again.resize.allocated_pod == {"limits": {"cpu": "2"}}
    assert again.resize.actuated_pod == {"limits": {"cpu": "1"}}


@pytest.mark.parametrize(
    ("own", "updated"),
    [({}, {"cpu": ("main",), "memory": ()}), ({"limits": {"cpu": "1"}}, {"cpu": (), "memory": ()})],
)
def test_a_pod_level_limit_changes_only_containers_that_inherit_it(own: Json, updated: Json) -> None:
    wanted = pod(container("main", resources=own), resources={"limits": {"cpu": "3"}})
    plan = plan_resize(wanted, {"main": own}, {"limits": {"cpu": "2"}}, frozenset({"main"}))
    assert plan.update == updated and not plan.restart


def test_one_resource_is_updated_beside_what_the_container_has_of_the_other() -> None:
    actual = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}}
    wanted = {"limits": {"cpu": "2", "memory": "2Gi", "example.com/x": "1"}, "requests": {"memory": "1Gi"}}
    assert with_resource(actual, wanted, "memory") == {
        "limits": {"memory": "2Gi", "example.com/x": "1", "cpu": "1"},
        "requests": {"memory": "1Gi", "cpu": "1"},
    }
    assert with_resource(actual, wanted, "cpu") == {"limits": {"cpu": "2", "example.com/x": "1", "memory": "1Gi"}}
