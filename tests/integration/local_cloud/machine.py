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


def inside(cloud: LocalCloud, instance_id: str, script: str, check: bool = True) -> str:
    """Run a shell script in all namespaces of an instance."""
    pid = str(first_process(cloud, instance_id))
    return run("nsenter", "-t", pid, "--all", "sh", "-c", script, check=check)


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
