"""The launcher process: imports the agent once, then forks every instance's first process from itself.

Started by the provider with one end of a SOCK_SEQPACKET pair. Each request is the path of an instance directory; the
answer comes from the fork: {"directory", "pid", "start_ticks"} or {"directory", "error"}. It ends when the provider
does (end of file), the instances stay. It has no threads, and no event loop while it forks: a fork of it is clean.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

from vk_provider.cloud.local import start, syscalls
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.process import ProcessIdentity

AGENT_PACKAGE = "vk_provider.agent"
AGENT_MODULE = "vk_provider.agent.app"
"""The program that instances run; named, not imported, as the cloud does not depend on the agent."""
AGENT_WARM_UP = "vk_provider.agent.warmup"
IDLE_S = 0.5
"""Without a request for so long, the agent is warmed up."""


def preload_agent() -> str:
    """Import all of the agent; returns "" or why that failed."""
    try:
        importlib.import_module(AGENT_MODULE)
        package = importlib.import_module(AGENT_PACKAGE)
        for module in pkgutil.walk_packages(package.__path__, AGENT_PACKAGE + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    except Exception as error:  # a broken module may raise any error: the agent is then executed, which is slower
        return f"{type(error).__name__}: {error}"
    return ""


def warm_up_agent() -> None:
    """See the agent's module. Without it instances start slower, and that is all."""
    try:
        importlib.import_module(AGENT_WARM_UP).run()
    except Exception:  # as above
        traceback.print_exc()


def serve(connection: socket.socket, agent_module: str) -> None:
    """Fork one instance per request until the other end closes. What makes later ones cheaper is done when nobody has
    asked for a while: a launch does not wait for it."""
    is_warm = not agent_module
    while True:
        if not is_warm and not select.select([connection], [], [], IDLE_S)[0]:
            warm_up_agent()
            _freeze()
            is_warm = True
        request = connection.recv(4096)
        if not request:
            return
        if os.fork() == 0:
            _launch(connection, request.decode(), agent_module)


def _freeze() -> None:
    """Keeps shared pages shared in the forks."""
    gc.collect()
    gc.freeze()


def _launch(connection: socket.socket, directory: str, agent_module: str) -> NoReturn:
    def answer(**fields: object) -> None:
        connection.send(json.dumps({"directory": directory, **fields}).encode())

    def report(identity: ProcessIdentity) -> None:
        answer(pid=identity.pid, start_ticks=identity.start_ticks)

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        start.start_instance(BootSpec.load(directory), agent_module, report)
    except Exception as error:  # a boundary: the reason goes back to the provider, which may have had its answer
        traceback.print_exc()
        answer(error=str(error) or type(error).__name__)
    finally:
        os._exit(0)


def main(argv: list[str]) -> int:
    descriptor, preload = int(argv[0]), argv[1] == "preload"
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    syscalls.set_process_name("vk-launcher")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the provider's business
    error = preload_agent() if preload else "not wanted"
    gc.disable()
    _freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are reaped by the kernel
    try:
        connection.send(json.dumps({"ready": True, "preload_error": error}).encode())
        serve(connection, "" if error else AGENT_MODULE)
    except ConnectionError:
        pass  # the provider has gone
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
