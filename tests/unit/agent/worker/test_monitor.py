"""Local storage limits are looked at while a container runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.agent.worker.builders import SANDBOX, container, pod, record
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.monitor import PodMonitor
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.observed import Observation, State

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


class NoStats:
    async def list_container_stats(self, sandbox_id: str) -> list[Any]:
        return []


async def test_a_full_volume_of_containers_that_all_ended_evicts_nothing_before_one_runs_again() -> None:
    node = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": ""}
    memory = PodMemory.from_message({"type": "pod", "pod": FULL, "references": {}, "services": [], "node": node})
    events, ends, seen = Events(), list[bool](), [record(MAIN, State.EXITED, 3)]
    monitor = PodMonitor(
        NoStats(),
        FullVolumes(),
        Recorder(events, "u1"),
        memory,
        lambda: Observation((SANDBOX,), tuple(seen)),
        lambda: ends.append(True),
    )
    await monitor.check_limits()
    assert memory.end is None and events.reasons == [] and ends == []
    seen[:] = [record(MAIN, State.RUNNING, created=20), *seen]
    await monitor.check_limits()
    assert memory.end is not None and memory.end.reason == "Evicted"
    assert events.reasons == ["Evicted"] and ends == [True]
