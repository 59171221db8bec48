"""A PodWorker on a real containerd, with an outbox that a test can wait on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.integration.agent.private_containerd import BUSYBOX_IMAGE, PrivateContainerd
from tests.wire_check import assert_fits
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.images import ImageStore
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.gate import NoTables
from vk_provider.agent.worker.sandbox.cgroups import remove_pod_cgroup
from vk_provider.agent.worker.worker import PodWorker
from vk_provider.jsontypes import Json


class RecordingOutbox(Outbox):
    """Keeps everything that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[tuple[Json, bool]] = []
        self.events: list[Json] = []
        self.changed = asyncio.Event()

    def send_status(self, pod_uid: str, status: Json, finished: bool) -> None:
        super().send_status(pod_uid, status, finished)
        assert_fits({"type": "status", "podUID": pod_uid, "status": status, "finished": finished})
        self.statuses.append((status, finished))
        self.changed.set()

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        super().send_event(pod_uid, event_type, reason, message, field_path)
        assert_fits(self.unacknowledged()[-1])
        self.events.append({"type": event_type, "reason": reason, "message": message, "fieldPath": field_path})
        self.changed.set()

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]


def container(name: str = "main", script: str = "sleep 1000", **fields: Any) -> Json:
    return {
        "name": name,
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **fields,
    }


def pod(*containers: Json, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "labels": {"app": "web"},
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "containers": list(containers) or [container()],
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


class WorkerHarness:
    """One pod on one worker. `restart` is a crash of the agent."""

    def __init__(self, runtime: ContainerRuntime, containerd: PrivateContainerd) -> None:
        self.runtime = runtime
        self.directory = Path(tempfile.mkdtemp(prefix="vkwt-"))
        self.facts = InstanceFacts(
            "i-test", containerd.primary_ip, containerd.pod_ip, "test.small", "zone-a", "ip-10-209-0-2"
        )
        self.pod: Json = {}
        self._address = containerd.address
        self._task: asyncio.Task[None] | None = None
        self.begin()

    def begin(self) -> None:
        self.outbox = RecordingOutbox()
        journal = Journal(self.directory / "journal.json")
        self.worker = PodWorker(
            self.runtime,
            ImageStore(self.runtime),
            self.outbox,
            journal,
            self.facts,
            self.directory / "kubelet",
            NoTables(),
        )
        self._task = asyncio.create_task(self.worker.run())

    async def kill(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def send(self, pod: Json, references: Json | None = None) -> None:
        self.pod = pod
        node = {
            "name": "node-1",
            "allocatable": {"cpu": "2", "memory": "1Gi"},
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
        }
        self.worker.update({"type": "pod", "pod": pod, "references": references or {}, "services": [], "node": node})

    def delete(self, grace_s: int = 30) -> None:
        metadata = {
            **self.pod["metadata"],
            "deletionTimestamp": "2030-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace_s,
        }
        self.send({**self.pod, "metadata": metadata})

    async def wait_for(self, condition: Callable[[Json], Any], timeout_s: float = 10.0) -> Json:
        """Return the newest status once the condition holds for it."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.outbox.changed.clear()
            if self.outbox.statuses and condition(self.outbox.statuses[-1][0]):
                return self.outbox.statuses[-1][0]
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.outbox.changed.wait()
            except TimeoutError:
                last = self.outbox.statuses[-1] if self.outbox.statuses else None
                raise AssertionError(f"not reached; last status {last}; events {self.outbox.events}") from None

    async def wait_observed(self) -> None:
        """Wait until the worker has looked at the runtime and computed a status from it."""
        async with asyncio.timeout(30):
            while True:
                if self.worker.sandbox_id:
                    return
                await asyncio.sleep(0.01)

    async def wait_finished(self, timeout_s: float = 10.0) -> Json:
        return await self.wait_for(lambda _: self.outbox.statuses[-1][1], timeout_s)

    async def wait_event(self, reason: str, timeout_s: float = 10.0) -> Json:
        deadline = time.monotonic() + timeout_s
        while True:
            self.outbox.changed.clear()
            found = [event for event in self.outbox.events if event["reason"] == reason]
            if found:
                return found[-1]
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.outbox.changed.wait()
            except TimeoutError:
                raise AssertionError(f"no event {reason}; events {self.outbox.events}") from None

    def log(self, name: str = "main", attempt: int = 0) -> str:
        """Content of a container's log, without the CRI prefix."""
        metadata = self.pod["metadata"]
        directory = Path(f"/var/log/pods/{metadata['namespace']}_{metadata['name']}_{metadata['uid']}")
        lines = (directory / name / f"{attempt}.log").read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    async def wait_until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait for something that no message announces."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)

    async def wait_log(self, text: str, name: str = "main", timeout_s: float = 10.0) -> None:
        """Wait until a container has written `text`."""
        async with asyncio.timeout(timeout_s):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    if text in self.log(name):
                        return
                await asyncio.sleep(0.01)

    async def _remove(self, sandbox_id: str) -> None:
        """A container that was being started when the worker was cancelled cannot be removed at once."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(RuntimeServiceError):
                    await self.runtime.stop_pod_sandbox(sandbox_id)
                    await self.runtime.remove_pod_sandbox(sandbox_id)
                    return
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self.kill()
        for sandbox in await self.runtime.list_pod_sandboxes():
            await self._remove(sandbox.id)
        if self.pod:
            metadata = self.pod["metadata"]
            name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
            shutil.rmtree(f"/var/log/pods/{name}", ignore_errors=True)
            remove_pod_cgroup(f"/kubepods/pod{metadata['uid']}")
        await PodVolumes(self.directory / "kubelet").tear_down()
        shutil.rmtree(self.directory, ignore_errors=True)


def status_of(status: Json, name: str) -> Json:
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(key) or []:
            if entry["name"] == name:
                return entry
    raise AssertionError(f"no status of {name}")


def is_running(status: Json) -> bool:
    return bool(status["phase"] == "Running")


def is_ready(status: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])


async def make_harness(runtime: ContainerRuntime, containerd: PrivateContainerd) -> AsyncIterator[WorkerHarness]:
    harness = WorkerHarness(runtime, containerd)
    try:
        yield harness
    finally:
        await harness.close()
