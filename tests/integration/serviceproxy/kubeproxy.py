"""The real kube-proxy, nftables mode, in the node's namespace of a bed."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

from tests.cluster import build
from tests.cluster.kubeproxy import write_config
from tests.integration.serviceproxy.apiserver import ObjectServer
from tests.integration.serviceproxy.bed import Bed
from tests.integration.serviceproxy.opened import Opened
from tests.service_objects import (
    LOCAL_PODS,
    LOCAL_PODS6,
    NODE,
    NODE4,
    NODE6,
    make_endpoint,
    make_port,
    make_service,
    make_slice,
)
from vk_provider.jsontypes import Json

SERVICES, SLICES = "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"
NODES, CIDRS = "/api/v1/nodes", "/apis/networking.k8s.io/v1/servicecidrs"
SYNC_S = 20.0
_MARKERS = {"IPv4": ("ip", "10.96.255.254", "10.1.128.250"), "IPv6": ("ip6", "fd00:96::fffe", "fd00:2::fa")}


class KubeProxy(Opened):
    """Use as a context manager inside the bed's. `set_service` and `set_slice` take objects of the API, None to remove;
    `wait` returns when its rules follow all that was set before."""

    def __init__(
        self,
        bed: Bed,
        directory: Path,
        zone: str = "",
        cidrs: tuple[str, ...] = (),
        verbosity: int = 0,
        listed: bool = True,
    ) -> None:
        """`listed`: entering waits until the rules are there; with thousands of Services it takes minutes to list
        them, and the log has to do."""
        super().__init__()
        self._bed, self._directory, self._zone, self._cidrs = bed, directory, zone, cidrs
        self._verbosity, self._listed = verbosity, listed
        self._step = 1000
        self._api = ObjectServer()
        self.log = directory / "kube-proxy.log"

    def _open(self) -> None:
        listener = self._bed.socket(self._bed.node, socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        self._api.start(listener)
        self._stack.callback(self._api.close)
        self._seed()
        self._start(port)
        if self._listed:
            self.wait()
            self._insist_on_cidrs()

    def set_service(self, key: str, item: Json | None) -> None:
        self._api.set(SERVICES, key, item)

    def set_slice(self, key: str, item: Json | None) -> None:
        self._api.set(SLICES, key, item)

    def wait(self) -> None:
        """The last objects of both kinds carry a number: when the rules of both families have it, the rest is in, too.
        Raises AssertionError with the proxy's last words."""
        self._step += 1
        for family, (_, address, pod) in _MARKERS.items():
            fixed = f"marker/slice-{family.lower()}"
            self.set_service(fixed, make_service(fixed, address, ports=[make_port(1)]))
            moving = f"marker/service-{family.lower()}"
            self.set_service(moving, make_service(moving, address, ports=[make_port(self._step)]))
            for name, port in ((fixed, self._step), (moving, 1)):
                ports = [{"name": "", "protocol": "TCP", "port": port}]
                self.set_slice(name, make_slice(name, make_endpoint(pod, "n2"), ports=ports, family=family))
        deadline = time.monotonic() + SYNC_S
        while True:
            asked = time.monotonic()
            if all(self._follows(*marker) for marker in _MARKERS.values()):
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"kube-proxy does not follow:\n{self.log.read_text()[-3000:]}")
            time.sleep(max(0.02, 2 * (time.monotonic() - asked)))  # a large map takes long to list

    def _follows(self, family: str, address: str, _: str) -> bool:
        listed = self._bed.run_node("nft", "list", "map", family, "kube-proxy", "service-ips", check=False)
        if f"{address} . tcp . {self._step} : goto" not in listed:
            return False
        chain = re.search(rf"{re.escape(address)} \. tcp \. 1 : goto (\S+?)[,\s]", listed)
        if chain is None:
            return False
        rules = self._bed.run_node("nft", "list", "chain", family, "kube-proxy", chain[1], check=False)
        return f":{self._step}" in rules

    def _insist_on_cidrs(self) -> None:
        """What it drops of Services' networks is among its rules when they are all written after it has heard of them,
        and that is by chance so at its start. They are all written when the Node's topology changes."""
        deadline = time.monotonic() + SYNC_S
        families = {"ip6" if ":" in cidr else "ip" for cidr in self._cidrs}
        while not all(
            "drop" in self._bed.run_node("nft", "list", "chain", family, "kube-proxy", "cluster-ips-check")
            for family in families
        ):
            assert time.monotonic() < deadline, "kube-proxy does not follow the ServiceCIDR"
            for zone in ("elsewhere", self._zone):
                self._set_node(zone)
                self.wait()

    def _set_node(self, zone: str) -> None:
        labels = {"topology.kubernetes.io/zone": zone} if zone else {}
        addresses = [{"type": "InternalIP", "address": address} for address in (NODE4, NODE6)]
        node: Json = {"metadata": {"name": NODE, "uid": "uid-n1", "labels": labels}, "spec": {}}
        self._api.set(NODES, NODE, node | {"status": {"addresses": addresses}})

    def _seed(self) -> None:
        self._set_node(self._zone)
        ready = [{"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": None}]
        cidr: Json = {"metadata": {"name": "kubernetes", "uid": "uid-cidr"}, "spec": {"cidrs": list(self._cidrs)}}
        if self._cidrs:
            self._api.set(CIDRS, "kubernetes", cidr | {"status": {"conditions": ready}})

    def _start(self, port: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.yaml"
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.write_text(_KUBECONFIG.format(port=port))
        config.write_text(write_config(NODE, f"{LOCAL_PODS},{LOCAL_PODS6}", kubeconfig))
        program = build.ensure("controlplane").parent / "kube-proxy"
        command = ["nsenter", f"--net=/run/netns/{self._bed.node}", str(program)]
        command += [f"--config={config}", f"--v={self._verbosity}"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._stack.callback(self._stop)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()


_KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{}}}}]
current-context: c
"""
