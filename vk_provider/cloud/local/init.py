"""The first process of an instance: makes its file system and network, then keeps containerd and the agent running.

`start_instance` runs in a throw-away process forked by the launcher: it joins the control group, makes the namespaces
and forks process 1, which outlives the launcher and the provider. Only that process knows how to live on: it reaps
orphans, restarts what dies with a back-off, and ends with SIGTERM. Killing it ends the instance.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vk_provider.cloud.local import boot, cgroup, syscalls
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.local.rootfs import make_root
from vk_provider.errors import EXIT_BAD_START

FIRST_RESTART_S, LAST_RESTART_S = 0.1, 10.0
BAD_START_RESTART_S = 30.0
STEADY_S = 20.0
"""A service that ran this long starts its back-off anew."""
STOP_S = 5.0
_NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def start_instance(spec: BootSpec, agent_module: str) -> ProcessIdentity:
    """Make process 1 of the instance and record its identity on disk. `agent_module`: start the agent by forking
    process 1 and calling this module's `main`; "" = execute spec.agent. Returns only in the calling process."""
    os.setsid()
    lock = os.open(spec.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this throw-away process ends: an instance is started once
    running = ProcessIdentity.read(spec.path / "pid")
    if running is not None:
        return running
    spec.instance_cgroup.join()
    cpu_max = spec.instance_cgroup.open_cpu_max()
    syscalls.unshare(_NAMESPACES)
    recorded, record = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(record)
        os.read(recorded, 1)  # returns at the end of file
        _run_first_process(spec, agent_module, cpu_max)
    identity = ProcessIdentity.of(pid)
    if identity is None:
        raise OSError("the instance's first process ended at once")
    identity.write(spec.path / "pid")
    os.close(record)  # only now: process 1 changes the root of this process, too, and hides /proc and the directory
    return identity


def _run_first_process(spec: BootSpec, agent_module: str, cpu_max: int | None) -> NoReturn:
    code = 1
    try:
        _close_descriptors(keep=cpu_max)
        _redirect(spec.path / "console.log")
        os.umask(0o022)
        syscalls.set_process_name("vk-init")
        init = Init(spec, agent_module, cpu_max)
        init.boot()
        code = init.supervise()
    except BaseException:  # the process must not return into the launcher's code, whatever happens
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _close_descriptors(keep: int | None) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself


def _redirect(path: Path) -> None:
    """Standard input from /dev/null, outputs appended to a log file."""
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


@dataclass(slots=True)
class Service:
    """A process that is started again when it ends."""

    name: str
    start: Callable[[], int]
    pid: int = 0
    started: float = 0.0
    due: float | None = None
    delay_s: float = FIRST_RESTART_S


class Init:
    """Process 1. `cpu_max`: see InstanceCgroup.open_cpu_max."""

    def __init__(self, spec: BootSpec, agent_module: str, cpu_max: int | None = None) -> None:
        self._spec = spec
        self._agent_module = agent_module
        self._cpu_max = cpu_max
        directory = spec.path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._containerd_log = os.open(directory / "containerd.log", flags, 0o600)
        self._agent_log = os.open(directory / "agent.log", flags, 0o600)
        self._services = [Service("containerd", self._start_containerd), Service("agent", self._start_agent)]
        self._stop_by: float | None = None
        self._cpu_limit_due: float | None = time.monotonic() + spec.boot_credit_s

    def boot(self) -> None:
        """Everything up to running services. Raises OSError; the caller logs it and the instance ends."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._spec.boot_credit_s <= 0:
            self._limit_cpu(on_host=True)
        wiring = self._spawn_wiring()
        make_root(self._spec)
        socket.sethostname(self._spec.hostname)
        syscalls.set_interface_up("lo")
        self._begin(self._services[0])
        _wait_for(wiring, "wiring the bridge")
        _wait_for(self._spawn_batch(boot.build_instance_batch(self._spec)), "configuring eth0")
        for name, value in boot.SYSCTLS.items():
            Path("/proc/sys", name).write_text(value)
        self._begin(self._services[1])

    def supervise(self) -> int:
        """Reap and restart until SIGTERM; returns the exit code."""
        while True:
            self._reap()
            now = time.monotonic()
            if self._stop_by is not None:
                if now >= self._stop_by or not any(service.pid for service in self._services):
                    return 0
            else:
                for service in self._services:
                    if service.due is not None and service.due <= now:
                        self._begin(service)
            if self._cpu_limit_due is not None and self._cpu_limit_due <= now:
                self._limit_cpu(on_host=False)
            timeout_s = self._next_timeout_s(now)
            signals = {signal.SIGCHLD, signal.SIGTERM}
            caught = signal.sigwaitinfo(signals) if timeout_s is None else signal.sigtimedwait(signals, timeout_s)
            if caught is not None and caught.si_signo == signal.SIGTERM and self._stop_by is None:
                self._stop_by = time.monotonic() + STOP_S
                for service in self._services:
                    if service.pid:
                        os.kill(service.pid, signal.SIGTERM)

    def _next_timeout_s(self, now: float) -> float | None:
        times = [t for t in (self._stop_by, self._cpu_limit_due, *(s.due for s in self._services)) if t is not None]
        return max(0.0, min(times) - now) if times else None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self._services:
                if service.pid == pid:
                    self._ended(service, status)

    def _begin(self, service: Service) -> None:
        service.due = None
        service.started = time.monotonic()
        service.pid = service.start()

    def _ended(self, service: Service, status: int) -> None:
        now = time.monotonic()
        code = os.waitstatus_to_exitcode(status)
        if now - service.started >= STEADY_S:
            service.delay_s = FIRST_RESTART_S
        delay_s = BAD_START_RESTART_S if code == EXIT_BAD_START else service.delay_s
        service.delay_s = min(LAST_RESTART_S, service.delay_s * 2)
        service.pid = 0
        service.due = now + delay_s
        print(f"{service.name} ended with code {code}, restart in {delay_s:g} s", file=sys.stderr, flush=True)

    def _start_containerd(self) -> int:
        return self._spawn(self._spec.containerd, self._containerd_log)

    def _start_agent(self) -> int:
        if not self._agent_module:
            return self._spawn(self._spec.agent, self._agent_log)
        pid = os.fork()
        if pid == 0:
            self._run_agent()
        return pid

    def _run_agent(self) -> NoReturn:
        """The agent in a fork of process 1, whose modules are already imported."""
        code: object = 1
        try:
            os.setsid()
            if self._cpu_max is not None:
                os.close(self._cpu_max)
            syscalls.set_process_name("vk-agent")
            os.dup2(self._agent_log, 1)
            os.dup2(self._agent_log, 2)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.environ.clear()
            os.environ.update(self._spec.environment)
            gc.enable()
            arguments = list(self._spec.agent[self._spec.agent.index("agent") + 1 :])
            sys.argv = ["vk-provider agent", *arguments]
            code = importlib.import_module(self._agent_module).main(arguments)
        except SystemExit as end:
            code = end.code
        except BaseException:  # the fork must never return into process 1's loop
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def _spawn(self, argv: tuple[str, ...], log: int) -> int:
        return os.posix_spawn(
            argv[0],
            list(argv),
            self._spec.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT],
        )

    def _spawn_wiring(self) -> int:
        """Make the veth pair from within the bridge's namespace, while process 1 goes on with mounts. The namespace is
        opened before the fork: process 1 changes the root of both."""
        namespace = os.open(self._spec.bridge_namespace, os.O_RDONLY | os.O_CLOEXEC)
        batch = _text_descriptor(boot.build_bridge_batch(self._spec))
        pid = os.fork()
        if pid == 0:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, set())
                syscalls.setns(namespace, syscalls.CLONE_NEWNET)
                os.dup2(batch, 0)
                os.execvpe("ip", ["ip", "-batch", "-"], self._spec.environment)
            except BaseException:  # the fork must never return into process 1's code
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(batch)
        os.close(namespace)
        return pid

    def _spawn_batch(self, text: str) -> int:
        batch = _text_descriptor(text)
        try:
            return os.posix_spawnp(
                "ip",
                ["ip", "-batch", "-"],
                self._spec.environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, batch, 0)],
                setsigmask=[],
            )
        finally:
            os.close(batch)

    def _limit_cpu(self, *, on_host: bool) -> None:
        self._cpu_limit_due = None
        try:
            if self._cpu_max is not None:
                cgroup.write_cpu_max(self._cpu_max, self._spec.cpu_milli)
                return
            group = self._spec.instance_cgroup
            for hierarchy, path in zip(group.hierarchies, group.paths(), strict=True):
                if "cpu" in hierarchy.controllers:
                    # After the pivot, this process sees its own group as the hierarchy's root.
                    inside = Path("/sys/fs/cgroup", hierarchy.options)
                    cgroup.limit_cpu(path if on_host else inside, self._spec.cpu_milli)
        except OSError as error:
            # A container may have come up between the look at the groups below and the write.
            print(f"CPU limit not set, tried again: {error}", file=sys.stderr, flush=True)
            self._cpu_limit_due = time.monotonic() + LAST_RESTART_S


def _text_descriptor(text: str) -> int:
    """A readable descriptor that holds `text` (shorter than a pipe's buffer)."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader


def _wait_for(pid: int, what: str) -> None:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise OSError(f"{what} failed (exit code {code})")
