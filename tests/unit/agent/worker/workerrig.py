"""One pod's passes on a runtime in memory: after each step of the runtime a status is computed, so none goes unseen."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.runtime import ExecResult
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker import deadline, lifecycle, preparer
from vk_provider.agent.worker.container import starter, starts
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.podrun import PodRun
from vk_provider.agent.worker.resizer import Resizer
from vk_provider.agent.worker.sandbox import cgroups
from vk_provider.jsontypes import Json
from vk_provider.wire.session import NodeFacts, PodMessage

FACTS = InstanceFacts("i-1", "10.0.0.2", "10.0.0.3", "t.small", "a", "h")
NODE = NodeFacts(name="n", allocatable={"cpu": "1", "memory": "1Gi"}, clusterDNS=[], clusterDomain="cluster.local")
SECOND = 1_000_000_000
T0 = 1_800_000_000


class Clock:
    """Stands for the module `time` where back-off is computed."""

    def __init__(self) -> None:
        self.now = float(T0)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class MemoryRuntime:
    """ContainerRuntime without processes. exit_code: of a container that is stopped; step: awaited after each change.

    An exec of a hook succeeds; one of a probe (`probe`) does not answer, since tests set the results.
    """

    def __init__(self, clock: Clock) -> None:
        self.exit_code = 0
        self.sandboxes: dict[str, pb.PodSandboxStatus] = {}
        self.containers: dict[str, pb.ContainerStatus] = {}
        self.removed: list[str] = []
        self._places: dict[str, str] = {}
        self._clock = clock
        self._numbers = itertools.count()

    async def step(self) -> None:
        """Replaced by the rig."""

    def _now_ns(self) -> int:
        return int(self._clock.now * SECOND) + next(self._numbers)

    async def list_pod_sandboxes(self) -> list[pb.PodSandbox]:
        return [pb.PodSandbox(id=s.id, state=s.state, labels=s.labels) for s in self.sandboxes.values()]

    async def pod_sandbox_status(self, sandbox_id: str) -> pb.PodSandboxStatus | None:
        return self.sandboxes.get(sandbox_id)

    async def run_pod_sandbox(self, config: pb.PodSandboxConfig, runtime_handler: str = "") -> str:
        sandbox_id = f"sb{config.metadata.attempt}"
        self.sandboxes[sandbox_id] = pb.PodSandboxStatus(
            id=sandbox_id,
            metadata=config.metadata,
            state=pb.SANDBOX_READY,
            created_at=self._now_ns(),
            network=pb.PodSandboxNetworkStatus(ip=FACTS.pod_ip),
            labels=config.labels,
        )
        await self.step()
        return sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        self.sandboxes[sandbox_id].state = pb.SANDBOX_NOTREADY
        await self.step()

    async def list_containers(self) -> list[pb.Container]:
        return [
            pb.Container(id=c.id, pod_sandbox_id=self._places[c.id], state=c.state, labels=c.labels)
            for c in self.containers.values()
        ]

    async def container_status(self, container_id: str) -> pb.ContainerStatus | None:
        found = self.containers.get(container_id)
        if found is None:
            return None
        copied = pb.ContainerStatus()
        copied.CopyFrom(found)
        return copied

    async def create_container(self, sandbox_id: str, config: pb.ContainerConfig, _: pb.PodSandboxConfig) -> str:
        container_id = f"{config.metadata.name}-{next(self._numbers)}"
        self._places[container_id] = sandbox_id
        self.containers[container_id] = pb.ContainerStatus(
            id=container_id,
            metadata=config.metadata,
            state=pb.CONTAINER_CREATED,
            created_at=self._now_ns(),
            image=config.image,
            image_ref=config.image.image,
            labels=config.labels,
            annotations=config.annotations,
        )
        await self.step()
        return container_id

    async def start_container(self, container_id: str) -> None:
        found = self.containers[container_id]
        found.state, found.started_at = pb.CONTAINER_RUNNING, self._now_ns()
        await self.step()

    async def stop_container(self, container_id: str, timeout_s: int) -> None:
        self.end(container_id, self.exit_code)
        await self.step()

    def end(self, container_id: str, exit_code: int) -> None:
        """Its process ends."""
        found = self.containers[container_id]
        found.state, found.finished_at, found.exit_code = pb.CONTAINER_EXITED, self._now_ns(), exit_code
        found.reason = "Error" if exit_code else "Completed"

    async def remove_container(self, container_id: str) -> None:
        if self.containers.pop(container_id, None) is not None:
            self.removed.append(container_id)
        await self.step()

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        if command == ["probe"]:
            await asyncio.Event().wait()
        await self.step()
        return ExecResult(b"", b"", 0)


class MemoryImages:
    """ImageStore in which every image is, except those that are `missing`."""

    blobs = None

    def __init__(self) -> None:
        self.missing: set[str] = set()

    async def status(self, image: str) -> pb.Image | None:
        return None if any(name in image for name in self.missing) else pb.Image(id="sha256:1", size=7)


class Told(Outbox):
    """Keeps every status that is sent, and the reasons of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[Json] = []
        self.reasons: list[str] = []

    def send_status(self, pod_uid: str, status: Json, finished: bool) -> None:
        super().send_status(pod_uid, status, finished)
        self.statuses.append(status)

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.reasons.append(reason)

    def changes(self, name: str) -> list[tuple[str, int]]:
        """(state, restartCount) of a container, one entry for each change."""
        seen: list[tuple[str, int]] = []
        for status in self.statuses:
            entry = entry_of(status, name)
            look = (next(iter(entry["state"])), entry["restartCount"])
            if not seen or seen[-1] != look:
                seen.append(look)
        return seen

    def conditions(self, kind: str) -> set[str]:
        """Values that a condition had."""
        return {c["status"] for status in self.statuses for c in status["conditions"] if c["type"] == kind}


def entry_of(status: Json, name: str) -> Json:
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(key) or []:
            if entry["name"] == name:
                return dict(entry)
    raise AssertionError(f"no status of {name}")


def _move_cgroups(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod's cgroup is looked for in an empty directory and not on this machine."""
    root.mkdir(exist_ok=True)
    functions = [each for each in vars(cgroups).values() if inspect.isfunction(each) and each.__defaults__]
    for function in [*functions, Resizer.__init__]:
        moved = tuple(root if default == cgroups.ROOT else default for default in function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", moved)


class Tables:
    """The instance's tables; `late` are those that were not in force yet. waited_for: set while somebody waits."""

    def __init__(self) -> None:
        self.late: dict[str, str] = {}
        self.waited_for = asyncio.Event()
        self._changed = asyncio.Event()

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self.late[name] for name in names if name in self.late}

    async def wait_change(self) -> None:
        self._changed.clear()
        self.waited_for.set()
        await self._changed.wait()

    def apply(self, name: str) -> None:
        del self.late[name]
        self.waited_for.clear()
        self._changed.set()


class WorkerRig:
    """`pass_` does one pass; `told` is what was sent. Nothing runs between the calls."""

    def __init__(self, pod: Json, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        for module in (deadline, lifecycle, starts):
            monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(starter, "LEGACY_LOG_DIR", directory / "legacy")
        for module in (starter, preparer):
            monkeypatch.setattr(module, "log_directory", lambda _: str(directory / "logs"))
        _move_cgroups(directory / "cgroup", monkeypatch)
        monkeypatch.setattr(starter, "find_thermal_throttles", lambda: ())
        self.runtime = MemoryRuntime(self.clock)
        self.images = MemoryImages()
        self.told = Told()
        self.memory = PodMemory.from_message(PodMessage(type="pod", pod=pod, references={}, services=[], node=NODE))
        runtime: Any = self.runtime
        images: Any = self.images
        volumes = PodVolumes(directory / "kubelet")
        journal = Journal(directory / "journal.json")
        self.tables = Tables()
        self.run = PodRun(self.memory, runtime, images, self.told, journal, FACTS, volumes, self.tables)
        self.runtime.step = self.publish

    async def publish(self) -> None:
        await self.run._publisher.publish()

    async def pass_(self) -> float | None:
        """One pass and the status after it; returns when the next one is due."""
        try:
            return await self.run._lifecycle.sync()
        finally:
            await self.publish()

    async def start(self) -> None:
        """Passes until everything has been started."""
        for _ in range(1 + len(self.memory.pod["spec"].get("initContainers") or [])):
            await self.pass_()
        self.forget()

    def forget(self) -> None:
        self.told.statuses[:-1] = []
        self.told.reasons.clear()

    def id_of(self, name: str, index: int = 0) -> str:
        return self.run.observed.history(name)[index].id

    def fail_probe(self, kind: Any, name: str) -> None:
        self.run._probes.seed(self.id_of(name), kind, "failure")

    def change(self, name: str, **fields: Any) -> None:
        """The API changes a container of the spec."""
        pod = self.memory.api_pod
        spec = dict(pod["spec"])
        for listed in ("initContainers", "containers"):
            spec[listed] = [{**c, **fields} if c["name"] == name else c for c in spec.get(listed) or []]
        self.memory.api_pod = {**pod, "spec": spec}

    async def close(self) -> None:
        for closing in (self.run._probes, self.run._puller, self.run._killer):
            await closing.close()


Rig = Callable[[Json], WorkerRig]
