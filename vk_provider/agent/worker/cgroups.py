"""The pod's own cgroup with its limits, above those of its containers: cgroup v1 (also hybrid) and v2.

Blocking file work; call in a thread. Source: pkg/kubelet/cm/{pod_container_manager_linux,helpers_linux}.go (v1.37).
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from vk_provider.agent.cri import api_pb2 as pb

log = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")


def apply_pod_limits(parent: str, resources: pb.LinuxContainerResources, root: Path = ROOT) -> None:
    """Create the pod's cgroup if needed and write its limits.

    parent: path below the controllers' roots, "/kubepods/pod<uid>". A controller that the instance does not have is
    left out; limits of the single containers do not depend on this.
    """
    if (root / "cgroup.controllers").exists():
        _apply_v2(root, parent, resources)
    else:
        _apply_v1(root, parent, resources)


def bounded_quota(quota_us: int, period_us: int, root: Path = ROOT) -> int:
    """The quota that the instance can give: cgroup v1 refuses a quota (EINVAL) above that of a group further up."""
    if not quota_us:
        return 0
    try:
        most_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        most_period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return quota_us
    return quota_us if most_us <= 0 else min(quota_us, most_us * period_us // most_period_us)


def remove_pod_cgroup(parent: str, root: Path = ROOT) -> None:
    """Remove the pod's cgroup from every controller; leaves alone what is still in use."""
    unified = (root / "cgroup.controllers").exists()
    for controller in [root] if unified else [path for path in root.iterdir() if path.is_dir()]:
        with contextlib.suppress(OSError):
            (controller / parent.strip("/")).rmdir()


def _apply_v1(root: Path, parent: str, resources: pb.LinuxContainerResources) -> None:
    for controller, files in (
        ("memory", {"memory.limit_in_bytes": str(resources.memory_limit_in_bytes or -1)}),
        (
            "cpu",
            {
                "cpu.shares": str(resources.cpu_shares or 2),
                "cpu.cfs_period_us": str(resources.cpu_period or 100_000),
                "cpu.cfs_quota_us": str(resources.cpu_quota or -1),
            },
        ),
    ):
        if (root / controller).is_dir():
            _write_files(root / controller / parent.strip("/"), files)


def _apply_v2(root: Path, parent: str, resources: pb.LinuxContainerResources) -> None:
    path = root
    for name in parent.strip("/").split("/"):
        with contextlib.suppress(OSError):  # a namespace's root with processes of its own may not delegate
            (path / "cgroup.subtree_control").write_text("+cpu +memory +pids +cpuset +io")
        path = path / name
        path.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        (path / "cgroup.subtree_control").write_text("+cpu +memory +pids +cpuset +io")
    quota = str(resources.cpu_quota) if resources.cpu_quota else "max"
    files = {
        "cpu.weight": str(cpu_weight(resources.cpu_shares)),
        "cpu.max": f"{quota} {resources.cpu_period or 100_000}",
        "memory.max": str(resources.memory_limit_in_bytes or "max"),
    }
    _write_files(path, {name: value for name, value in files.items() if (path / name).exists()})


def cpu_weight(shares: int) -> int:
    """cgroup v2's weight (1-10000) of v1's shares (2-262144), linear as the kubelet's."""
    return 1 + (max(2, shares) - 2) * 9999 // 262142


def _write_files(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        try:
            (directory / name).write_text(value)
        except OSError as error:
            log.warning("cannot write %s of the pod's cgroup: %s", name, error)
