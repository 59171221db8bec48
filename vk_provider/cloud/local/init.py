"""The first process of an instance: makes its file system and network, then keeps containerd and the agent running.

start.py makes it; it outlives the launcher and the provider. It reaps orphans, restarts
services that exit with a back-off, and exits on SIGTERM. Killing it terminates the instance.
"""

from __future__ import annotations

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

from vk_provider.cloud.local import boot, links, syscalls
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.rootfs import make_root
from vk_provider.errors import EXIT_BAD_START

FIRST_RESTART_S, LAST_RESTART_S = 0.1, 10.0
BAD_START_RESTART_S = 30.0
STEADY_S = 20.0
"""A service that ran this long resets its back-off."""
STOP_S = 5.0


@dataclass(slots=True)
class Service:
    """A process that is restarted when it exits."""

    name: str
    start: Callable[[], int]
    pid: int = 0
    started: float = 0.0
    due: float | None = None
    delay_s: float = FIRST_RESTART_S


class Init:
    """Process 1. It is made while the machine's files can still be opened; `connection`: see start.py."""

    def __init__(self, spec: BootSpec, agent_module: str, connection: socket.socket) -> None:
        self._spec = spec
        self._agent_module = agent_module
        self._connection = connection
        self._cpu_limit = spec.instance_cgroup.open_cpu_limit()
        directory = spec.path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._containerd_log = os.open(directory / "containerd.log", flags, 0o600)
        self._agent_log = os.open(directory / "agent.log", flags, 0o600)
        self._services = [Service("containerd", self._start_containerd), Service("agent", self._start_agent)]
        self._stop_by: float | None = None
        self._cpu_limit_due: float | None = time.monotonic() + spec.boot_credit_s

    def boot(self) -> None:
        """Everything up to running services. Raises OSError; the caller logs it and the instance ends."""
        self._await_message(b"recorded")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._spec.boot_credit_s <= 0:
            self._limit_cpu(mounted=None)
        make_root(self._spec)
        socket.sethostname(self._spec.hostname)
        syscalls.set_interface_up("lo")
        self._begin(self._services[0])
        self._await_message(b"wired")
        self._connection.close()
        links.configure(self._spec)
        for name, value in boot.sysctls(self._spec).items():
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
                self._limit_cpu(mounted=Path("/sys/fs/cgroup"))
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
            os.close(self._cpu_limit)
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

    def _await_message(self, expected: bytes) -> None:
        message = self._connection.recv(100)
        if message != expected:
            raise OSError(f"no word that this instance is {expected.decode()}")

    def _limit_cpu(self, mounted: Path | None) -> None:
        self._cpu_limit_due = None
        try:
            self._spec.instance_cgroup.write_cpu_limit(self._cpu_limit, self._spec.cpu_milli, mounted)
        except OSError as error:
            # A container may have come up between the look at the groups below and the write.
            print(f"CPU limit not set, tried again: {error}", file=sys.stderr, flush=True)
            self._cpu_limit_due = time.monotonic() + LAST_RESTART_S
