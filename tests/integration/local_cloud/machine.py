"""Looks at the machine from outside: what a cloud has made and what it has left."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from vk_provider.cloud.local.cgroup import find_hierarchies
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig


def run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    if check and done.returncode != 0:
        raise AssertionError(f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def exists(*parts: str) -> bool:
    return Path(*parts).exists()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def first_process(cloud: LocalCloud, instance_id: str) -> int:
    identity = cloud._store.identity(instance_id)
    assert identity is not None and identity.is_alive()
    return identity.pid


def first_processes(cloud: LocalCloud, instance_id: str) -> list[int]:
    """Whatever is number 1 of a PID namespace in the instance's control group, recorded or not."""
    record = cloud._store.load(instance_id)
    assert record is not None
    return [pid for pid in cloud._cgroup(record).processes() if _namespaced_pid(pid) == 1]


def _namespaced_pid(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    (line,) = [line for line in lines if line.startswith("NSpid:")]
    return int(line.split()[-1])


def inside(cloud: LocalCloud, instance_id: str, script: str, check: bool = True, limited: bool = False) -> str:
    """Run a shell script in all namespaces of an instance. `limited`: under its limits, too; nsenter joins namespaces,
    not control groups."""
    enter = ["nsenter", "-t", str(first_process(cloud, instance_id)), "--all", "sh", "-c", script]
    if not limited:
        return run(*enter, check=check)
    files = [str(path / "cgroup.procs") for path in instance_groups(cloud, instance_id)]
    join = 'files=$1; shift; for file in $files; do echo $$ > "$file"; done; exec "$@"'
    return run("sh", "-c", join, "sh", " ".join(files), *enter, check=check)


def instance_groups(cloud: LocalCloud, instance_id: str) -> list[Path]:
    """The instance's groups that hold processes: on cgroup v2 that is a leaf, on v1 one in each hierarchy."""
    groups = [base / instance_id for base in cgroup_directories(cloud.config)]
    return [path / "init" if (path / "init").exists() else path for path in groups]


def cpu_seconds(cloud: LocalCloud, instance_id: str) -> float:
    """CPU time of an instance as its control group counts it."""
    for base in cgroup_directories(cloud.config):
        group = base / instance_id
        if (group / "cpuacct.usage").exists():
            return int((group / "cpuacct.usage").read_text()) / 1e9
        if (group / "cpu.stat").exists() and "usage_usec" in (group / "cpu.stat").read_text():
            return int((group / "cpu.stat").read_text().split()[1]) / 1e6
    raise AssertionError(f"no CPU account of {instance_id}")


def processes(cloud: LocalCloud, instance_id: str, name: str) -> list[int]:
    """Pids (of the host) of an instance's processes called `name`."""
    namespace = Path(f"/proc/{first_process(cloud, instance_id)}/ns/pid").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/pid").readlink() == namespace and (entry / "comm").read_text().strip() == name:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def cgroup_directories(config: LocalCloudConfig) -> list[Path]:
    return [path for h in find_hierarchies() if (path := Path(h.path) / config.cgroup).exists()]


def bridge_ports(config: LocalCloudConfig) -> list[str]:
    text = run("ip", "-n", config.namespace, "-br", "link", "show", "type", "veth")
    return [name for line in text.splitlines() if (name := line.split("@")[0]).startswith("v")]


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]], timeout_s: float = 10.0) -> object:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.02)
