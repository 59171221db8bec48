"""The pod's own cgroup with its limits, above those of its containers: cgroup v1 (also hybrid) and v2.

Blocking file work; call in a thread. Source: pkg/kubelet/cm/{pod_container_manager_linux,helpers_linux}.go (v1.37).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vk_provider.podmodel.podresources import ResourceConfig, cpu_weight, weight_to_shares
from vk_provider.podmodel.resources import CPU_PERIOD_US

ROOT = Path("/sys/fs/cgroup")
_V1_UNLIMITED = 1 << 62
"""cgroup v1 shows "no limit" as the largest multiple of its page size."""


def write_pod_config(parent: str, config: ResourceConfig, root: Path = ROOT) -> list[str]:
    """Create the pod's cgroup if needed and write its limits; return what went wrong.

    parent: path below the controllers' roots, "/kubepods/pod<uid>". A controller that the instance does not have is
    left out; limits of the single containers do not depend on this. What is None stays as it is.
    """
    return _write_v2(root, parent, config) if _is_unified(root) else _write_v1(root, parent, config)


def read_pod_config(parent: str, root: Path = ROOT) -> ResourceConfig | None:
    """The limits that the pod's cgroup has (GetPodCgroupConfig), None when there is no such cgroup."""
    name = parent.strip("/")
    if _is_unified(root):
        path = root / name
        if not path.is_dir():
            return None
        quota, _, period = _read_text(path / "cpu.max").partition(" ")
        weight = _read_number(path / "cpu.weight")
        return ResourceConfig(
            weight_to_shares(weight) if weight else None,
            int(quota) if quota.isdecimal() else None,
            int(period) if period.isdecimal() else CPU_PERIOD_US,
            _read_number(path / "memory.max"),
        )
    cpu, memory = root / "cpu" / name, _read_number(root / "memory" / name / "memory.limit_in_bytes")
    if memory is None and not cpu.is_dir():
        return None
    return ResourceConfig(
        _read_number(cpu / "cpu.shares"),
        _read_number(cpu / "cpu.cfs_quota_us"),
        _read_number(cpu / "cpu.cfs_period_us") or CPU_PERIOD_US,
        memory if memory is not None and memory < _V1_UNLIMITED else None,
    )


def read_pod_memory_usage(parent: str, root: Path = ROOT) -> int | None:
    """Bytes that the pod uses, None when that cannot be read."""
    name = parent.strip("/")
    if _is_unified(root):
        return _read_number(root / name / "memory.current")
    return _read_number(root / "memory" / name / "memory.usage_in_bytes")


def bounded_config(config: ResourceConfig, root: Path = ROOT) -> ResourceConfig:
    """The same with the quota that the instance can give."""
    quota = bounded_quota(config.cpu_quota or 0, config.cpu_period, root)
    return replace(config, cpu_quota=quota or None)


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


def _is_unified(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _write_v1(root: Path, parent: str, config: ResourceConfig) -> list[str]:
    errors = []
    files = {
        "memory": {"memory.limit_in_bytes": config.memory},
        "cpu": {
            "cpu.shares": config.cpu_shares,
            "cpu.cfs_period_us": config.cpu_period if config.cpu_quota else None,
            "cpu.cfs_quota_us": config.cpu_quota,
        },
    }
    for controller, wanted in files.items():
        if (root / controller).is_dir():
            errors += _write_files(root / controller / parent.strip("/"), wanted)
    return errors


def _write_v2(root: Path, parent: str, config: ResourceConfig) -> list[str]:
    path = root
    for name in parent.strip("/").split("/"):
        with contextlib.suppress(OSError):  # a namespace's root with processes of its own may not delegate
            (path / "cgroup.subtree_control").write_text("+cpu +memory +pids +cpuset +io")
        path = path / name
        path.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        (path / "cgroup.subtree_control").write_text("+cpu +memory +pids +cpuset +io")
    files = {
        "cpu.weight": cpu_weight(config.cpu_shares) if config.cpu_shares else None,
        "cpu.max": f"{config.cpu_quota} {config.cpu_period}" if config.cpu_quota else None,
        "memory.max": config.memory,
    }
    return _write_files(path, {name: value for name, value in files.items() if (path / name).exists()})


def _write_files(directory: Path, files: Mapping[str, int | str | None]) -> list[str]:
    directory.mkdir(parents=True, exist_ok=True)
    errors = []
    for name, value in files.items():
        if value is None:
            continue
        try:
            (directory / name).write_text(str(value))
        except OSError as error:
            errors.append(f'failed to write "{value}" to {name} of the pod: {(error.strerror or str(error)).lower()}')
    return errors


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _read_number(path: Path) -> int | None:
    """None also for "max" and -1, which are no limit."""
    text = _read_text(path)
    return int(text) if text.isdecimal() else None
