"""The first process of a real kubelet's machine: `python -m tests.cluster.kubelet.init FILE` with a NodeConfig.

It is started in fresh namespaces, makes a root of its own over this machine's files (writes stay in memory), and keeps
containerd, kubelet and kube-proxy running until SIGTERM.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from tests.cluster.kubelet import config as texts
from tests.cluster.kubelet.config import NodeConfig
from vk_provider.cloud.local import syscalls
from vk_provider.cloud.local.containerd import ADDRESS, CONFIG_PATH

GUARDED = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
RESTART_S = 1.0
SOCKET_LIMIT_S = 20.0
PULL_LIMIT_S = 300.0


def make_root(config: NodeConfig) -> None:
    """Mount the node's root and enter it."""
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    top = config.path / "top"
    top.mkdir(exist_ok=True)
    syscalls.mount("node", str(top), "tmpfs", 0, "mode=0755")
    for name in ("upper", "work", "root"):
        (top / name).mkdir()
    root = top / "root"
    syscalls.mount("node", str(root), "overlay", 0, f"lowerdir=/,upperdir={top}/upper,workdir={top}/work")
    _mount_kernel(config, root)
    for name, target in texts.DISKS.items():
        (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        syscalls.mount(str(config.path / "disk" / name), f"{root}{target}", "", syscalls.MS_BIND)
    for directory in (texts.CNI_CONF_DIR, "/etc/containerd", texts.CONFIG_DIR):
        shutil.rmtree(f"{root}{directory}", ignore_errors=True)  # this machine's own are not the node's
    shutil.copytree(config.path / "files", root, dirs_exist_ok=True)
    syscalls.pivot_root(str(root))
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)  # volumes propagate
    socket.sethostname(config.name)


def _mount_kernel(config: NodeConfig, root: Path) -> None:
    syscalls.mount("proc", f"{root}/proc", "proc", GUARDED)
    for name, value in texts.KERNEL_TUNABLES.items():
        shown = config.path / "tunables" / name.replace("/", "-")
        shown.parent.mkdir(exist_ok=True)
        shown.write_text(f"{value}\n")
        syscalls.mount(str(shown), f"{root}/proc/sys/{name}", "", syscalls.MS_BIND)
    syscalls.mount("sysfs", f"{root}/sys", "sysfs", GUARDED)
    groups = f"{root}/sys/fs/cgroup"
    if config.hierarchies[0][2]:
        syscalls.mount("cgroup2", groups, "cgroup2", GUARDED)
    else:
        syscalls.mount("tmpfs", groups, "tmpfs", GUARDED, "mode=0755")
        for _, options, _ in config.hierarchies:
            name = options.removeprefix("none,name=")
            os.mkdir(f"{groups}/{name}")
            syscalls.mount("cgroup", f"{groups}/{name}", "cgroup", GUARDED, options)
            for controller in name.split(",") if "," in name else ():
                os.symlink(name, f"{groups}/{controller}")
    syscalls.mount("/dev", f"{root}/dev", "", syscalls.MS_BIND)
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("shm", "tmpfs", "mode=1777"),
        ("mqueue", "mqueue", ""),
    ):
        if os.path.isdir(f"{root}/dev/{name}"):
            syscalls.mount(kind, f"{root}/dev/{name}", kind, syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
    for name, mode in (("run", "0755"), ("tmp", "1777")):
        syscalls.mount("tmpfs", f"{root}/{name}", "tmpfs", syscalls.MS_NOSUID, f"mode={mode}")


class Services:
    """The node's three services; one that ends is started again."""

    def __init__(self, config: NodeConfig, logs: Path) -> None:
        self._config = config
        self._arguments = {
            "containerd": [config.programs["containerd"], "--config", CONFIG_PATH],
            "kube-proxy": texts.proxy_arguments(config),
            "kubelet": texts.kubelet_arguments(config),
        }
        self._logs = {name: (logs / f"{name}.log").open("ab") for name in self._arguments}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one of them."""
        log = self._logs[name]
        self._running[name] = subprocess.Popen(
            self._arguments[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def load_images(self) -> None:
        """Wait for containerd, and give it the sandbox image and those that pods find present."""
        deadline = time.monotonic() + SOCKET_LIMIT_S
        while not os.path.exists(ADDRESS):
            if time.monotonic() > deadline:
                raise TimeoutError("containerd does not listen")
            time.sleep(0.05)
        ctr = [self._config.programs["ctr"], "--namespace", "k8s.io", "images"]
        self._run([*ctr, "import", f"{texts.CONFIG_DIR}/pause.tar"])
        for image in self._config.images:
            self._run([*ctr, "pull", "--hosts-dir", texts.CERTS_DIR, image])

    def _run(self, command: list[str]) -> None:
        log = self._logs["containerd"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=PULL_LIMIT_S)

    def supervise(self) -> NoReturn:
        """Reap and restart for ever; SIGTERM ends this process, and with it all of the namespace."""
        while True:
            pid, _ = os.waitpid(-1, 0)  # the services, and what lost its parent
            for name, process in self._running.items():
                if process.pid == pid:
                    process.returncode = 0
                    print(f"{name} ended, started again", file=sys.stderr, flush=True)
                    time.sleep(RESTART_S)
                    self.start(name)


def main(arguments: list[str]) -> NoReturn:
    """Boot; the namespaces are there, and so is the network."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    config = NodeConfig.from_text(Path(arguments[0]).read_text())
    services = Services(config, config.path)
    make_root(config)
    services.start("containerd")
    services.load_images()
    services.start("kube-proxy")
    services.start("kubelet")
    services.supervise()


if __name__ == "__main__":
    main(sys.argv[1:])
