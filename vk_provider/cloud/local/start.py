"""Makes the first process of an instance.

`start_instance` runs in a throw-away process that the launcher forks. It stays on the machine's side and forks a second
one, which joins the control group, mounts what the instance may see (stage.py), enters the namespaces, and forks
process 1 in them. The two sides talk over a pair of sockets: "PID" or "error: ..." from the instance's side, then
"recorded" and "wired" to process 1.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from vk_provider.cloud.local import links, syscalls, userns
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.init import Init
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.local.stage import build_stage

_NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def start_instance(spec: BootSpec, agent_module: str, report: Callable[[ProcessIdentity], None]) -> None:
    """Make process 1 of the instance, record its identity on disk, report it, and connect the instance to the bridge.
    `agent_module`: start the agent by forking process 1 and calling this module's `main`; "" = execute spec.agent.
    Raises OSError, before the report or after it; then the instance ends."""
    os.setsid()
    lock = os.open(spec.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this throw-away process ends: an instance is started once
    running = ProcessIdentity.read(spec.path / "pid")
    if running is not None:
        report(running)
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    user_namespace = userns.make(spec.slot)
    if os.fork() == 0:
        ours.close()
        _enter(spec, agent_module, theirs, user_namespace)
    os.close(user_namespace)
    theirs.close()
    answer = ours.recv(4096).decode()
    identity = ProcessIdentity.of(int(answer)) if answer.isdigit() else None
    if identity is None:
        raise OSError(answer.removeprefix("error: ") or "the instance's first process ended at once")
    identity.write(spec.path / "pid")
    ours.send(b"recorded")
    report(identity)
    _wire(spec, identity.pid)
    ours.send(b"wired")


def _wire(spec: BootSpec, pid: int) -> None:
    """Make the veth pair. This process is at its end and may go into the bridge's namespace itself."""
    namespace = os.open(spec.network.bridge_namespace, os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(namespace, syscalls.CLONE_NEWNET)
    os.close(namespace)
    links.connect_to_bridge(spec, pid)


def _enter(spec: BootSpec, agent_module: str, connection: socket.socket, user_namespace: int) -> NoReturn:
    """The second process: everything that needs rights over the machine, then the fork of process 1."""
    code = 1
    try:
        _close_descriptors({connection.fileno(), user_namespace})
        _redirect_output(spec)
        os.umask(0o022)
        syscalls.set_process_name("vk-init")
        spec.instance_cgroup.join()
        init = Init(spec, agent_module, connection)  # opens what process 1 writes on the machine's side
        syscalls.unshare(syscalls.CLONE_NEWNS)
        build_stage(spec, user_namespace, userns.host_id(spec.slot))
        syscalls.setns(user_namespace, syscalls.CLONE_NEWUSER)
        os.close(user_namespace)
        syscalls.unshare(_NAMESPACES)
        userns.become_root()
        pid = os.fork()
        if pid == 0:
            _run_first_process(init)
        connection.send(str(pid).encode())
        code = 0
    except BaseException as error:  # the process must never return into the launcher's code
        traceback.print_exc()
        connection.send(f"error: {error}".encode()[:4000])
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run_first_process(init: Init) -> NoReturn:
    code = 1
    try:
        init.boot()
        code = init.supervise()
    except BaseException:  # as above
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _close_descriptors(keep: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself


def _redirect_output(spec: BootSpec) -> None:
    """Standard input from /dev/null, outputs appended to the console's log."""
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(spec.path / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
