"""The cluster of two kinds of nodes in the tests' hands: servers and clients on each, Services over both."""

from __future__ import annotations

import ipaddress
import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.cluster.cache import cache_dir
from tests.cluster.images.catalog import select_entries
from tests.demo.environment import NODE, Environment
from tests.e2e.manifest import pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

KUBELET = "kubelet"
NODES = (NODE, KUBELET)
AGNHOST = select_entries("agnhost")[0].references[0]
TCP, UDP = "http", "udp"
"""As agnhost's dialer calls them; the former is one TCP connection a request."""
PORTS = {TCP: 80, UDP: 81}
"""Of the Services."""
TARGETS = {TCP: 8080, UDP: 8081}
"""Of the servers."""
HOST_TARGETS = {TCP: 18080, UDP: 18081}
"""Of those on the host network, where others may listen."""
DIAL_S = 5
"""agnhost waits so long for an answer."""
TRIES = 24
"""Two endpoints: that one of them is never chosen in so many tries happens once in 8 million runs."""

MIXED = Environment(
    cache_dir() / "mixed",
    name="mixed",
    subnet="10.214.0.0/16",
    address="10.214.0.1",
    taint=False,
    daemonsets="run",
    preload_images=(AGNHOST,),
    healthz_port=10748,
    kubelet_node=KUBELET,
    kubelet_network="10.215.0.0/23",
    resolver=True,
    dns=True,
)


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of the tries of one dial."""

    responses: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def kinds(self) -> set[str]:
        """The different responses; an error is one, too."""
        return {*self.responses, *self.errors}


class Mixed:
    """One namespace: `web-NODE` and `client-NODE` on each Node, `host-NODE` on its host network."""

    def __init__(self, nodeless: Nodeless, namespace: Namespace) -> None:
        self.nodeless, self.namespace = nodeless, namespace
        self.image = f"{nodeless.environment.registry}/{AGNHOST}"
        network = ipaddress.IPv4Network(nodeless.environment.kubelet_network)
        self._pod_ips: dict[str, str] = {}
        self._services: dict[str, Json] = {}
        self.node_addresses = {NODE: nodeless.environment.address, KUBELET: str(network.network_address + 2)}

    def deploy(self) -> None:
        """Everything that the tests share."""
        names = []
        for node in NODES:
            peer = {"hostname": f"web-{node}", "subdomain": "peers", "labels": {"app": "web", "on": node}}
            self.namespace.apply(
                self.server(f"web-{node}", node, **peer),
                self.server(f"client-{node}", node),
                self.server(f"host-{node}", node, HOST_TARGETS, labels={"app": "host"}, **ON_HOST),
                make_service(f"only-{node}", {"on": node}, type="NodePort"),
                make_service(f"local-{node}", {"on": node}, type="NodePort", externalTrafficPolicy="Local"),
            )
            names += [f"web-{node}", f"client-{node}", f"host-{node}"]
        web = {"app": "web"}
        self.namespace.apply(
            make_service("web", web, type="NodePort"),
            make_service("local", web, type="NodePort", externalTrafficPolicy="Local"),
            make_service("near", web, internalTrafficPolicy="Local"),
            make_service("sticky", web, type="NodePort", sessionAffinity="ClientIP"),
            make_service("peers", web, clusterIP="None"),
            make_service("hosted", {"app": "host"}, HOST_TARGETS),
        )
        self.namespace.wait_ready(*names)
        for service in ("web", "local", "near", "sticky", "peers", "hosted"):
            self.wait_endpoints(service, 2)
        for client in names:
            for service in ("web", "hosted", "only-nodeless", "local-kubelet"):
                self.wait_answers(client, self.cluster_ip(service), PORTS[TCP])

    def server(self, name: str, node: str, ports: dict[str, int] = TARGETS, **fields: Any) -> Json:
        """A pod that answers by TCP and UDP, and dials for the tests."""
        arguments = ["netexec", f"--http-port={ports[TCP]}", f"--udp-port={ports[UDP]}"]
        ready = {"httpGet": {"path": "/healthz", "port": ports[TCP]}, "periodSeconds": 1}
        container = {"name": "main", "image": self.image, "args": arguments, "readinessProbe": ready}
        if fields.get("hostNetwork"):  # a wildcard socket would answer from the address that is nearest to the client
            container["env"] = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
            arguments.append("--udp-listen-addresses=$(POD_IP)")
        return pod(name, container, nodeName=node, **fields)

    def wait_endpoints(self, service: str, count: int) -> None:
        """Until the Service has so many Ready endpoints."""
        until(f"{count} endpoints of {service}", lambda: len(self.namespace.ready_endpoints(service)) == count)

    def wait_answers(self, client: str, host: str, port: int) -> None:
        """Until every try is answered: a proxy follows the cluster in its own time."""
        until(f"{host}:{port} answers {client}", lambda: not self.dial(client, host, port).errors)

    # What there is.

    def pod_ip(self, name: str) -> str:
        if name not in self._pod_ips:
            self._pod_ips[name] = str(self.namespace.pod(name)["status"]["podIP"])
        return self._pod_ips[name]

    def cluster_ip(self, service: str) -> str:
        return str(self._service(service)["clusterIP"])

    def node_port(self, service: str, protocol: str = TCP) -> int:
        return int(next(item["nodePort"] for item in self._service(service)["ports"] if item["name"] == protocol))

    def _service(self, name: str) -> Json:
        """Its specification. No test changes one, or makes another of that name."""
        if name not in self._services:
            self._services[name] = self.namespace.get("service", name)["spec"]
        return self._services[name]

    # What the pods do.

    def dial(
        self, client: str, host: str, port: int, protocol: str = TCP, request: str = "hostname", tries: int = 1
    ) -> Answers:
        """Ask `host` from the pod `client`, which resolves a name itself; each try is a flow of its own.

        This machine reaches every pod, so it asks the pod's own server to dial.
        """
        own = (HOST_TARGETS if client.startswith("host-") else TARGETS)[TCP]
        query = urlencode({"host": host, "port": port, "protocol": protocol, "request": request, "tries": tries})
        url = f"http://{self.pod_ip(client)}:{own}/dial?{query}"
        try:
            with urllib.request.urlopen(url, timeout=DIAL_S * tries + 30) as reply:
                answer = json.loads(reply.read())
        except urllib.error.HTTPError as refusal:  # a name that is not found
            with refusal:
                return Answers(errors=(refusal.read().decode().strip(),))
        return Answers(tuple(answer.get("responses", ())), tuple(answer.get("errors", ())))

    def lookup(self, client: str, name: str) -> set[str]:
        """The IPv4 addresses that `client` is told for an absolute name."""
        text = self.namespace.execute(client, f"nslookup -type=a {shlex.quote(name)}").stdout
        answers = text.partition("\n\n")[2]
        words = (line.split()[-1] for line in answers.splitlines() if line.startswith("Address"))
        return set(words)


ON_HOST = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}


def make_service(name: str, selector: dict[str, str], targets: dict[str, int] = TARGETS, **spec: Any) -> Json:
    """A Service of both protocols."""
    ports = [
        {"name": name, "port": PORTS[name], "targetPort": targets[name], "protocol": protocol}
        for name, protocol in ((TCP, "TCP"), (UDP, "UDP"))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports, **spec},
    }


def pods_on(role: str, nodes: Sequence[str] = NODES) -> list[str]:
    """Names of the pods of one role: web, client, host."""
    return [f"{role}-{node}" for node in nodes]
