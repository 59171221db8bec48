"""Instances of the local cloud as its state directory and this machine's process table show them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.process import start_time
from vk_provider.cloud.base import TAG_POD_UID, InstanceState
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore

TAGS_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """An instance whose first process lives."""

    record: InstanceRecord
    pid: int
    directory: Path

    @property
    def pod_uid(self) -> str:
        return self.record.tags.get(TAG_POD_UID, "")

    def processes(self, name: str = "") -> list[int]:
        """Pids (of the host) in the instance, also in its containers; only those called `name` if given."""
        return [pid for pid in self._all() if not name or _comm(pid) == name]

    def service(self, name: str) -> int:
        """Pid of the instance's own `vk-agent` or `containerd` (a container cannot take these names' place)."""
        namespace = _namespace(self.pid)
        found = [pid for pid in self.processes(name) if _namespace(pid) == namespace]
        assert len(found) == 1, f"{len(found)} processes {name} in {self.record.instance_id}"
        return found[0]

    def _all(self) -> list[int]:
        group = Path("/sys/fs/cgroup")
        found: set[int] = set()
        for root in (group / "pids", group):
            for parent in root.glob(f"vk-*/{self.record.instance_id}"):
                for file in parent.rglob("cgroup.procs"):
                    found.update(_pids(file))
        return sorted(found)

    def run(self, script: str) -> str:
        """Output of a shell script run in the instance's namespaces."""
        command = ["nsenter", "-t", str(self.pid), "--all", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def kill(self) -> None:
        """SIGKILL its first process: what a machine's sudden death is."""
        os.kill(self.pid, signal.SIGKILL)


class Instances:
    """The live instances of one local cloud."""

    def __init__(self, config: LocalCloudConfig) -> None:
        self._store = InstanceStore(config)

    def live(self) -> list[LiveInstance]:
        found = []
        for instance_id in self._store.ids():
            record, identity = self._store.load(instance_id), self._store.identity(instance_id)
            if record is None or identity is None or not identity.is_alive():
                continue
            if InstanceState(record.state).is_terminating:
                continue
            found.append(LiveInstance(record, identity.pid, self._store.directory(instance_id)))
        return found

    def of_pod(self, uid: str) -> LiveInstance:
        """The one live instance of a pod; AssertionError when there is none, or more. One that was launched together
        with others has its pod's tags some seconds later."""
        deadline = time.monotonic() + TAGS_LIMIT_S
        while True:
            found = [instance for instance in self.live() if instance.pod_uid == uid]
            if found or time.monotonic() >= deadline:
                assert len(found) == 1, f"pod {uid} has {len(found)} live instances"
                return found[0]
            time.sleep(0.2)


def is_alive(pid: int) -> bool:
    return start_time(pid) is not None


def _pids(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text().split()]
    except OSError:
        return []


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
