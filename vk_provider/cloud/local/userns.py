"""User namespaces: root of an instance has no rights on this machine.

Each instance has a user namespace of its own, which owns its other namespaces. So a privileged container has all
capabilities over the instance and none over the machine: no device, kernel setting, module, file handle or mount of the
host is within its reach (user_namespaces(7)). On disk, files keep the IDs that they have
in the instance: its directories are mounted with the IDs translated.
"""

from __future__ import annotations

import os

from vk_provider.cloud.local import syscalls
from vk_provider.errors import BadStartError

_FIRST_HOST_ID = 0x70000000
"""Beyond what /etc/subuid and systemd give away (systemd.io/UIDS-GIDS)."""
_SLOT_IDS = 65536
_SLOTS = (0x7FFE0000 - _FIRST_HOST_ID) // _SLOT_IDS
_HIGH_OFFSET = 0x7FFFFFFF
_HIGH_IDS = 0x80000000 - _SLOT_IDS


def host_id(slot: int) -> int:
    """The user and group ID that an instance's root has on this machine. `slot`: a small number of the instance; where
    two have the same, they share the kernel's quotas for a user (keys, pipe buffers) and nothing else."""
    return _FIRST_HOST_ID + slot % _SLOTS * _SLOT_IDS


def build_map(slot: int) -> str:
    """uid_map and gid_map: the first 65536 IDs are the instance's own; those above, up to 2^31-1 as Kubernetes allows
    them, are the same in all instances."""
    return f"0 {host_id(slot)} {_SLOT_IDS}\n{_SLOT_IDS} {_HIGH_OFFSET + _SLOT_IDS} {_HIGH_IDS}\n"


def make(slot: int) -> int:
    """A descriptor of a new user namespace. Raises OSError."""
    with syscalls.paused_clone(syscalls.CLONE_NEWUSER) as pid:  # it needs a process until its descriptor is open
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(build_map(slot))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def become_root() -> None:
    """After joining a user namespace: be its root."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def check(directory: str) -> None:
    """Raise BadStartError when instances cannot have user namespaces, or no files in `directory` (blocking)."""
    try:
        namespace = make(0)
    except OSError as error:
        raise BadStartError(
            f"local cloud: this machine allows no user namespaces ({error}); see user.max_user_namespaces in sysctl"
        ) from None
    try:
        tree = syscalls.open_tree(directory)
        try:
            syscalls.set_mount(tree, user_namespace=namespace)
        finally:
            os.close(tree)
    except OSError as error:
        raise BadStartError(
            f"local cloud: the file system of {directory} cannot translate user IDs ({error}); "
            "ext4, xfs and btrfs can, from Linux 5.19 on"
        ) from None
    finally:
        os.close(namespace)
