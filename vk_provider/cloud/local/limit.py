"""How many instances this machine can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vk_provider.cloud.local.cgroup import Hierarchy

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_LEFT_FOR_OTHERS = 28
"""inotify instances of other programs: a control plane on this machine has 13, systemd some, containers theirs."""


@dataclass(frozen=True, slots=True)
class InstanceLimit:
    """reason: why it is less than what was configured, and what to do about it; "" when it is not."""

    instances: int
    reason: str = ""


def find_instance_limit(configured: int, hierarchies: Sequence[Hierarchy]) -> InstanceLimit:
    """The configured limit, or what the machine's limit of inotify instances (all of root's) allows."""
    try:
        inotify = int(_INOTIFY.read_text())
    except (OSError, ValueError):
        return InstanceLimit(configured)
    return compute_instance_limit(configured, inotify, any(hierarchy.unified for hierarchy in hierarchies))


def compute_instance_limit(configured: int, inotify: int, unified: bool) -> InstanceLimit:
    """containerd does not offer CRI without its watch of the CNI configuration. On cgroup v2 the shim also has one for
    each container, for OOM kills: the sandbox's and at least one more."""
    possible = max(1, (inotify - _LEFT_FOR_OTHERS) // (3 if unified else 1))
    if possible >= configured:
        return InstanceLimit(configured)
    return InstanceLimit(
        possible,
        f"fs.inotify.max_user_instances of this machine is {inotify}; "
        "for more: sysctl -w fs.inotify.max_user_instances=8192, then start the provider again",
    )
