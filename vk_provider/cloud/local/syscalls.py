"""The few Linux calls that Python 3.11 lacks: mounts, unshare, setns, clone, pivot_root, prctl, interface flags."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 32, 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000

_CLONE_VM, _STACK_BYTES = 0x00000100, 16384
_PR_SET_NAME = 15
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same number on every architecture
_AT_FDCWD, _AT_EMPTY_PATH, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = -100, 0x1000, 1, 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_IDMAP = 0x1, 0x4, 0x100000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _check_descriptor(result: int, what: str) -> int:
    _check(min(result, 0), what)
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); `kind` "" for bind mounts and propagation changes."""
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode()),
        f"mount {kind or source} on {target}",
    )


def unmount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), f"unmount {target}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace that `descriptor` is open on (a file such as /run/netns/x)."""
    _check(_libc.setns(descriptor, kind), "setns")


def pivot_root(new_root: str) -> None:
    """Make `new_root`, a mount point, the root of this mount namespace and drop the old root."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(f"pivot_root: unknown machine {platform.machine()}")
    os.chdir(new_root)
    _check(_libc.syscall(number, b".", b"."), f"pivot_root {new_root}")
    unmount(".", MNT_DETACH)
    os.chdir("/")


@contextmanager
def paused_clone(flags: int) -> Iterator[int]:
    """A process in new namespaces (clone(2)), for as long as the block runs; its PID. It shares our memory and runs
    nothing but libc's pause(3): a fork would copy the page tables of an interpreter. Raises OSError."""
    stack = ctypes.create_string_buffer(_STACK_BYTES)
    top = ctypes.c_void_p((ctypes.addressof(stack) + _STACK_BYTES) & ~0xF)
    pause = ctypes.cast(_libc.pause, ctypes.c_void_p)
    pid = _check_descriptor(_libc.clone(pause, top, _CLONE_VM | flags | signal.SIGCHLD, None), "clone")
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def set_process_name(name: str) -> None:
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def set_interface_up(name: str) -> None:
    """Set an interface of this network namespace up (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", name.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))


def open_tree(source: str) -> int:
    """A descriptor of a detached bind mount of `source`, to be attached with `attach`."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _check_descriptor(_libc.syscall(_OPEN_TREE, _AT_FDCWD, source.encode(), flags), f"open_tree {source}")


def set_mount(tree: int, *, read_only: bool = False, devices: bool = True, user_namespace: int | None = None) -> None:
    """Make a detached mount read-only, let no device be opened through it, or translate its user and group IDs as a
    user namespace (a descriptor) maps them (mount_setattr(2), ID-mapped mounts). Raises OSError, EINVAL where the file
    system cannot translate."""
    attributes = (_MOUNT_ATTR_RDONLY if read_only else 0) | (0 if devices else _MOUNT_ATTR_NODEV)
    attributes |= _MOUNT_ATTR_IDMAP if user_namespace is not None else 0
    request = struct.pack("QQQQ", attributes, 0, 0, user_namespace or 0)
    _check(_libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, request, len(request)), "mount_setattr")


def attach(tree: int, target: str) -> None:
    """Mount what `open_tree` returned."""
    _check(
        _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH), f"mount {target}"
    )
