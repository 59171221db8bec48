"""A containerd of its own for tests: own root, state, socket, CNI configuration, and its own network namespace.

While it runs, the *test process's main thread* is in that namespace too: probes reach the pod, streaming URLs on
127.0.0.1 work, and nothing of it shows on the host. Processes and mounts are the host's, so a test sees containers'
PIDs and volumes as an agent on the instance would. `stop` leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.cluster.images.__main__ import write_image_archive
from vk_provider.agent import network

PAUSE_IMAGE = "images.test/pause:3.10.2"
BUSYBOX_IMAGE = "docker.io/library/busybox:latest"
PRIMARY_IP = "10.209.0.2"
POD_IP = "10.209.0.3"
SUBNET = "10.209.0.0/24"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

_CONFIG = """\
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{dir}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


class PrivateContainerd:
    """Started by `start`; `restart` and `kill` are for tests of what survives."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vkct-"))
        self.address = str(self.directory / "containerd.sock")
        self.cni_dir = self.directory / "cni"
        self.certs_dir = self.directory / "certs.d"
        self.log_path = self.directory / "containerd.log"
        self.primary_ip, self.pod_ip = PRIMARY_IP, POD_IP
        self.pod_uids: list[str] = []
        """Pods whose logs and cgroups, which are at fixed places of the machine, `stop` removes."""
        self._process: subprocess.Popen[bytes] | None = None
        self._host_netns = -1

    def start(self) -> None:
        """Enter the namespace, start containerd, import the images. CRI answers when it returns."""
        self._enter_namespace()
        for directory in (self.cni_dir, self.certs_dir):
            directory.mkdir()
        conflist = network.build_cni_conflist(PRIMARY_IP, POD_IP, SUBNET, self.directory / "ipam")
        network.write_cni_conflist(conflist, self.cni_dir)
        (self.directory / "config.toml").write_text(
            _CONFIG.format(dir=self.directory, pause=PAUSE_IMAGE, restrict=str(_lacks_sys_resource()).lower())
        )
        self.launch()
        for recipe, name in (("pause", PAUSE_IMAGE), ("sample-busybox", BUSYBOX_IMAGE)):
            self.import_image(recipe, name)

    def launch(self) -> None:
        """Start the containerd process (again) and wait for its socket."""
        with self.log_path.open("ab") as log:
            command = ["containerd", "--config", str(self.directory / "config.toml"), "--log-level", "info"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 20
        while self.ctr("version", check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"containerd did not start:\n{self.log_path.read_text()[-3000:]}")
            time.sleep(0.02)

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End containerd; shims and containers go on."""
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait()

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ctr in CRI's namespace."""
        command = ["ctr", "--address", self.address, "-n", "k8s.io", *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def import_image(self, recipe: str, name: str) -> None:
        """Import an image of tests.cluster.images as `name`."""
        archive = self.directory / "image.tar"
        write_image_archive(recipe, name, archive)
        self.ctr("image", "import", str(archive))
        archive.unlink()

    def stop(self) -> None:
        """End everything and leave the namespace, which vanishes with its last process."""
        try:
            self.kill()
            self._kill_shims()
            self._unmount()
            self._remove_cgroups()
            for uid in self.pod_uids:
                _remove_traces(uid)
            _remove_dangling_log_links()
        finally:
            self._leave_namespace()
            shutil.rmtree(self.directory, ignore_errors=True)

    def _enter_namespace(self) -> None:
        self._host_netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_libc.unshare(_CLONE_NEWNET))
        for command in (
            "link set lo up",
            "link add eth0 type veth peer name wire0",
            f"address add {PRIMARY_IP}/24 dev eth0",
            "link set eth0 up",
            "link set wire0 up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _leave_namespace(self) -> None:
        if self._host_netns >= 0:
            _check(_libc.setns(self._host_netns, _CLONE_NEWNET))
            os.close(self._host_netns)

    def _kill_shims(self) -> None:
        """The shims carry our socket in their command line; containers are their children."""
        shims = [pid for pid, command in _processes() if "containerd-shim" in command and self.address in command]
        children = {pid for pid, parent in _parents().items() if parent in shims}
        for pid in [*children, *shims]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in shims):
            time.sleep(0.01)

    def _unmount(self) -> None:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted(points, reverse=True):
            if point.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", point], check=False)

    def _remove_cgroups(self) -> None:
        for path in sorted(Path("/sys/fs/cgroup").glob(f"*/{self.directory.name}/**"), reverse=True):
            try:
                path.rmdir()
            except OSError:
                pass


def _remove_traces(pod_uid: str) -> None:
    """Logs and cgroups of a pod."""
    for logs in Path("/var/log/pods").glob(f"*_{pod_uid}"):
        shutil.rmtree(logs)
    for cgroup in sorted(Path("/sys/fs/cgroup").glob(f"*/kubepods/**/*{pod_uid}*"), reverse=True):
        with contextlib.suppress(OSError):
            cgroup.rmdir()


def _remove_dangling_log_links() -> None:
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and not link.exists() and os.readlink(link).startswith("/var/log/pods/"):
            link.unlink(missing_ok=True)


def _lacks_sys_resource() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)
    return not effective >> 24 & 1


def _processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        except OSError:
            pass
    return found


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
    return found


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
