"""Brings a real kubelet up as a node of a control plane, and takes it away.

node = KubeletNode(directory, label="diff", name="kubelet", network="10.212.0.0/23", cloud_device="vk-diff")
node.up(plane, registry="10.211.0.1:5000", images=(...), dns="10.96.0.10")
node.down()      # processes, namespaces, control groups and files are gone
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.kubelet import config as texts
from tests.cluster.kubelet.config import NodeConfig
from tests.cluster.pki import Authority
from tests.cluster.process import Process
from vk_provider.cloud.local.cgroup import InstanceCgroup, find_hierarchies
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.containerd import build_config, find_containerd
from vk_provider.cloud.local.network import find_collision
from vk_provider.cloud.local.pause import PAUSE_IMAGE, write_pause_archive
from vk_provider.errors import BadStartError

PROJECT = Path(__file__).resolve().parents[3]
CNI_PLUGINS = "/usr/lib/cni"
MEMORY_BYTES = 12 * 2**30
READY_LIMIT_S = 120.0
PROXY_USER = "system:kube-proxy"


@dataclass(frozen=True, slots=True)
class KubeletNode:
    """The machine of one real kubelet.

    directory: everything it keeps is below
    label:     in names of namespaces, interfaces and control groups: one per cluster on this machine
    name:      of the Node
    network:   see NodeConfig
    cloud_device: this machine's interface to the instances, which the node's pods reach and are reached by
    """

    directory: Path
    label: str
    name: str
    network: str
    cloud_device: str

    @property
    def process(self) -> Process:
        """Its first process."""
        return Process("node", self.directory, self.directory)

    @property
    def _namespace(self) -> str:
        return f"vk-{self.label}-kubelet"

    @property
    def _device(self) -> str:
        return f"vr-{self.label}"[:15]

    @property
    def _table(self) -> str:
        """In this machine's own network namespace."""
        return f"{self._namespace}-forward"

    @property
    def _group(self) -> InstanceCgroup:
        return InstanceCgroup(tuple(find_hierarchies()), f"vk-{self.label}-kubelet/node")

    @property
    def log(self) -> Path:
        """The kubelet's own log."""
        return self.directory / "kubelet.log"

    def up(
        self, plane: ControlPlane, registry: str, images: Sequence[str], dns: str, out: TextIO | None = None
    ) -> None:
        """Start it, or find it running, and wait until its Node is Ready. Raises ClusterError."""
        program = build.ensure("kubelet", out)
        if self.process.pid() is None:
            self.down()
            try:
                self._start(plane, registry, tuple(images), dns, program)
            except (CommandError, BadStartError, OSError) as error:
                self.down()
                raise ClusterError(f"cannot make the kubelet's machine: {error}") from None
        self._wait_ready(plane)

    def _start(self, plane: ControlPlane, registry: str, images: tuple[str, ...], dns: str, program: Path) -> None:
        containerd = find_containerd()
        group = self._group
        config = NodeConfig(
            name=self.name,
            network=self.network,
            registry=registry,
            images=images,
            dns=dns,
            directory=str(self.directory),
            hierarchies=tuple((item.path, item.options, item.unified) for item in group.hierarchies),
            programs={
                "kubelet": str(program),
                "kube-proxy": str(build.ensure("controlplane").with_name("kube-proxy")),
                "containerd": containerd.path,
                "ctr": containerd.ctr_path,
            },
            containerd_version=containerd.version,
        )
        self._write_files(config, plane)
        self._make_network(config)
        group.create(MEMORY_BYTES)
        joined = " ".join(f"{path}/cgroup.procs" for path in group.paths())
        spec = self.directory / "node.json"
        spec.write_text(config.to_text())
        command = (
            f"for group in {joined}; do echo $$ > $group; done; "
            f"exec nsenter --net=/run/netns/{self._namespace} "
            "unshare --mount --pid --ipc --uts --cgroup --fork --kill-child "
            f"{sys.executable} -m tests.cluster.kubelet.init {spec}"
        )
        path = os.pathsep.join(dict.fromkeys([*containerd.directories, *os.environ.get("PATH", "").split(os.pathsep)]))
        self.process.start(["/bin/sh", "-c", command], {"PYTHONPATH": str(PROJECT), "PATH": path})

    def _write_files(self, config: NodeConfig, plane: ControlPlane) -> None:
        for name in texts.DISKS:
            (self.directory / "disk" / name).mkdir(parents=True, exist_ok=True)
        kubeconfigs = {
            "kubelet": plane.kubeconfig_for(f"system:node:{self.name}", ("system:nodes",)).read_text(),
            "kube-proxy": plane.kubeconfig_for(PROXY_USER).read_text(),
        }
        root = self.directory / "files"
        contents = texts.files(config, build_config(config.containerd_version, PAUSE_IMAGE, CNI_PLUGINS), kubeconfigs)
        for name, text in contents.items():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        own = root / texts.CONFIG_DIR.lstrip("/")
        authority = Authority(plane.state.pki, "ca")
        pair = authority.issue_server(f"kubelet-{self.name}", f"system:node:{self.name}", [self.name, config.address])
        for name, source in zip(("server.crt", "server.key", "ca.crt"), (*pair, plane.ca), strict=True):
            shutil.copyfile(source, own / name)
            (own / name).chmod(0o600)
        write_pause_archive(own / "pause.tar")

    def _make_network(self, config: NodeConfig) -> None:
        routes = json.loads(run_command(["ip", "-4", "-j", "route", "show", "table", "all"]) or "[]")
        collision = find_collision(ipaddress.IPv4Network(config.network), routes, self._device)
        if collision:
            raise BadStartError(collision)
        run_command(["ip", "netns", "add", self._namespace])
        run_command(["ip", "-batch", "-"], text=texts.host_batch(config, self._device, self._namespace))
        run_command(["ip", "-n", self._namespace, "-batch", "-"], text=texts.node_batch(config))
        inside = ["ip", "netns", "exec", self._namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1"]
        run_command(inside)
        devices = (self.cloud_device, self._device)
        run_command(["nft", "-f", "-"], text=texts.forwarding_table(self._table, devices))
        for device in devices:
            Path(f"/proc/sys/net/ipv4/conf/{device}/forwarding").write_text("1\n")

    def _wait_ready(self, plane: ControlPlane) -> None:
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline:
            self.process.require_alive()
            shown = plane.kubectl("get", "node", self.name, "-o", "json", check=False)
            conditions = json.loads(shown.stdout)["status"].get("conditions", []) if shown.returncode == 0 else []
            if any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
                return
            time.sleep(0.3)
        raise ClusterError(f"node {self.name} did not become Ready within {READY_LIMIT_S:.0f} s", f"read {self.log}")

    def down(self) -> None:
        """Everything away; works after a crash and when there is nothing. Raises ClusterError."""
        self.process.stop(limit_s=5)
        group = self._group
        group.kill()
        switch = Path(f"/proc/sys/net/ipv4/conf/{self.cloud_device}/forwarding")
        if switch.exists():
            switch.write_text("0\n")
        for command in (
            ["ip", "link", "del", self._device],
            ["ip", "netns", "del", self._namespace],
            ["nft", "delete", "table", "ip", self._table],
        ):
            try:
                run_command(command)
            except CommandError:
                pass  # was not there
        if not group.remove():
            raise ClusterError(f"processes of the kubelet's machine are left in the control group {group.name}")
        for path in group.paths():
            if path.parent.exists():
                path.parent.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)
