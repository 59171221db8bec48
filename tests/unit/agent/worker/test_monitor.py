"""Local storage limits are looked at while a container runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.agent.worker.builders import SANDBOX, container, pod, record
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.monitor import PodMonitor
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.observed import CONTAINER_NAME, Observation, ObservedContainer, State
from vk_provider.jsontypes import Json

MAIN = container("main")
FULL = pod(MAIN, volumes=[{"name": "small", "emptyDir": {"sizeLimit": "100Ki"}}])


class Events:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.reasons.append(reason)


class FullVolumes:
    async def usage(self) -> dict[str, Any]:
        return {"small": SimpleNamespace(used_bytes=5_000_000)}


class NoVolumes:
    async def usage(self) -> dict[str, Any]:
        return {}


class Stats:
    """layers: (container ID, name, bytes of its writable layer)."""

    def __init__(self, *layers: tuple[str, str, int]) -> None:
        self.layers = layers

    async def list_container_stats(self, sandbox_id: str) -> list[pb.ContainerStats]:
        return [
            pb.ContainerStats(
                attributes=pb.ContainerAttributes(id=container_id, labels={CONTAINER_NAME: name}),
                writable_layer=pb.FilesystemUsage(used_bytes=pb.UInt64Value(value=size)),
            )
            for container_id, name, size in self.layers
        ]


def monitor_of(
    pod: Json, stats: Stats, volumes: Any, seen: list[ObservedContainer], ends: list[bool]
) -> tuple[PodMonitor, PodMemory, Events]:
    """seen: what the runtime has, newest first. ends: gets an item when the pod is to end."""
    node = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": ""}
    memory = PodMemory.from_message({"type": "pod", "pod": pod, "references": {}, "services": [], "node": node})
    events = Events()
    monitor = PodMonitor(
        stats,
        volumes,
        Recorder(events, "u1"),
        memory,
        lambda: Observation((SANDBOX,), tuple(seen)),
        lambda: ends.append(True),
    )
    return monitor, memory, events


async def test_a_full_volume_of_containers_that_all_ended_evicts_nothing_before_one_runs_again() -> None:
    ends, seen = list[bool](), [record(MAIN, State.EXITED, 3)]
    monitor, memory, events = monitor_of(FULL, Stats(), FullVolumes(), seen, ends)
    await monitor.check_limits()
    assert memory.end is None and events.reasons == [] and ends == []
    seen[:] = [record(MAIN, State.RUNNING, created=20), *seen]
    await monitor.check_limits()
    assert memory.end is not None and memory.end.reason == "Evicted"
    assert events.reasons == ["Evicted"] and ends == [True]


@pytest.mark.parametrize(
    ("ended", "runs", "is_evicted"), [(50_000_000, 10, False), (10, 50_000_000, True)], ids=["ended", "runs"]
)
@pytest.mark.parametrize("newest_first", [True, False])
async def test_what_an_ended_container_has_written_does_not_count_for_the_one_that_runs(
    ended: int, runs: int, is_evicted: bool, newest_first: bool
) -> None:
    main = container("main", resources={"limits": {"ephemeral-storage": "1Mi"}})
    seen = [record(main, State.RUNNING, created=20), record(main, State.EXITED, 3, created=10)]
    layers = [("main-20", "main", runs), ("main-10", "main", ended)]
    ends = list[bool]()
    stats = Stats(*(layers if newest_first else reversed(layers)))
    monitor, memory, events = monitor_of(pod(main), stats, NoVolumes(), seen, ends)
    await monitor.check_limits()
    assert (memory.end is not None) is is_evicted
    assert events.reasons == ["Evicted"] * is_evicted and ends == [True] * is_evicted
