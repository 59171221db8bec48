"""Services in a real cluster: from a pod, a hostNetwork pod and the machine, which owns the Nodes' address."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.e2e.manifest import container, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

TRIES = 20
"""Two endpoints: that one of them is never chosen in so many tries happens once in 500,000 runs."""
WEB = """mkdir -p /tmp/www/cgi-bin; hostname > /tmp/www/index.html
printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /tmp/www/cgi-bin/client; chmod +x /tmp/www/cgi-bin/client
exec httpd -f -p 8080 -h /tmp/www"""
HOST_PORT = 18080
LOOPBACK_PORT = 18081
CLIENTS = ("client", "host-client", "machine")


def make_service(name: str, app: str = "web", **spec: Any) -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


@pytest.fixture(scope="module")
def cluster(namespace: Namespace, nodeless: Nodeless) -> Namespace:
    """A server on each Node, and clients."""
    first, second = nodeless.nodes
    namespace.apply(
        *(
            pod(f"web-{n}", container(nodeless.image, WEB), labels={"app": "web"}, nodeName=node)
            for n, node in enumerate((first, second))
        ),
        pod("client", container(nodeless.image), nodeName=first),
        pod("client-2", container(nodeless.image), nodeName=second),
        pod("host-client", container(nodeless.image), nodeName=first, hostNetwork=True),
        make_service("web"),
        make_service("none", "nobody"),
        make_service("ports", type="NodePort"),
        make_service("sticky", sessionAffinity="ClientIP"),
        make_service("near", internalTrafficPolicy="Local"),
        make_service("outside", type="NodePort", externalTrafficPolicy="Local"),
    )
    namespace.wait_ready("web-0", "web-1", "client", "client-2", "host-client")
    until("both servers are endpoints", lambda: len(namespace.ready_endpoints("web")) == 2)
    return namespace


def cluster_ip(namespace: Namespace, service: str) -> str:
    return str(namespace.get("service", service)["spec"]["clusterIP"])


def node_port(namespace: Namespace, service: str) -> int:
    return int(namespace.get("service", service)["spec"]["ports"][0]["nodePort"])


def ask(namespace: Namespace, client: str, address: str, port: int, path: str = "") -> str:
    """What one HTTP request from `client` gets: the server's word, "refused" or "nothing"."""
    url = f"http://{address}:{port}/{path}"
    if client == "machine":
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return str(answer.read().decode().strip())
        except urllib.error.URLError as error:
            return "refused" if isinstance(error.reason, ConnectionRefusedError) else "nothing"
        except OSError:
            return "nothing"
    done = namespace.execute(client, f"timeout 3 wget -q -O - {url} 2>&1", check=False)
    return "refused" if "refused" in done.stdout else done.stdout.strip() if done.returncode == 0 else "nothing"


def ask_often(namespace: Namespace, client: str, address: str, port: int, tries: int = TRIES) -> set[str]:
    """The different answers to many requests; "nothing" among them when one had none twice, which ends them. What share
    of connections is lost is the differential tests' question: they have the patience."""
    if client == "machine":
        return {ask_twice(partial(ask, namespace, client, address, port)) for _ in range(tries)}
    once = f"timeout 3 wget -q -O - http://{address}:{port}/"
    script = f"for i in $(seq {tries}); do {once} || {once} || {{ echo nothing; break; }}; done"
    return set(namespace.execute(client, script, check=False).stdout.splitlines())


def ask_twice(look: Callable[[], str]) -> str:
    """The second answer where the first was none: a machine may be slow."""
    return found if (found := look()) != "nothing" else look()


def ask_once(namespace: Namespace, client: str, address: str, port: int) -> set[str]:
    return {ask(namespace, client, address, port)}


def until_answers(look: Callable[[], set[str]], wanted: set[str]) -> None:
    until(f"the answers are {wanted}", lambda: look() == wanted, 20, explain=look)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cluster_ip_reaches_every_endpoint(cluster: Namespace, client: str) -> None:
    until_answers(lambda: ask_often(cluster, client, cluster_ip(cluster, "web"), 80), {"web-0", "web-1"})


@pytest.mark.parametrize("client", CLIENTS)
def test_datagrams_to_a_cluster_ip_reach_every_endpoint(cluster: Namespace, nodeless: Nodeless, client: str) -> None:
    """The endpoints are on the machine: a name server is the only thing that busybox speaks UDP with."""
    name = f"names-{client}"
    with NameServer(nodeless.environment.address) as first, NameServer(nodeless.environment.address) as second:
        spec = {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec},
            *(make_slice(name, f"{name}-{server.port}", server) for server in (first, second)),
        )
        address = cluster_ip(cluster, name)

        def ask_names() -> bool:
            if client == "machine":
                for _ in range(TRIES):
                    ask_name_server(address)
            else:
                script = f"for i in $(seq {TRIES}); do timeout 2 nslookup x.example {address}; done"
                cluster.execute(client, script, check=False)
            return bool(first.asked and second.asked)

        until("both endpoints were asked", ask_names, 20, explain=lambda: (first.asked, second.asked))


class NameServer:
    """Answers each question with "no such name", and counts them."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.address, self.port = self._socket.getsockname()
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", (self.address, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while question := self._socket.recvfrom(512):
            data, sender = question
            if not data:
                return
            self.asked += 1
            self._socket.sendto(data[:2] + b"\x81\x83" + data[4:], sender)


def ask_name_server(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(2)
        try:
            sender.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1x\7example\0\0\1\0\1", (address, 53))
        except PermissionError:  # the Service is known, and its endpoints are not yet: the machine refuses
            return
        with contextlib.suppress(TimeoutError):
            sender.recv(512)


def make_slice(service: str, name: str, server: NameServer) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": server.port, "protocol": "UDP"}],
        "endpoints": [{"addresses": [server.address]}],
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_service_without_endpoints_refuses_at_once(cluster: Namespace, client: str) -> None:
    started = time.monotonic()
    assert ask(cluster, client, cluster_ip(cluster, "none"), 80) == "refused"
    assert time.monotonic() - started < 2.5
    assert ask(cluster, client, cluster_ip(cluster, "web"), 81) == "refused"  # a port that it does not have


@pytest.mark.parametrize("client", CLIENTS)
def test_a_node_port_answers_at_the_nodes_address(cluster: Namespace, nodeless: Nodeless, client: str) -> None:
    address = nodeless.environment.address
    assert ask_often(cluster, client, address, node_port(cluster, "ports")) == {"web-0", "web-1"}


def test_a_server_sees_the_address_of_the_pod_that_asks(cluster: Namespace) -> None:
    address = cluster.pod("client")["status"]["podIP"]
    seen = ask(cluster, "client", cluster_ip(cluster, "web"), 80, "cgi-bin/client")
    assert seen == f"[::ffff:{address}]"  # as its socket of both families shows it


def test_a_server_reaches_itself_by_its_service(cluster: Namespace) -> None:
    assert ask_often(cluster, "web-0", cluster_ip(cluster, "web"), 80) == {"web-0", "web-1"}


def test_a_client_with_affinity_stays_with_one_endpoint(cluster: Namespace) -> None:
    for client in CLIENTS:
        assert ask_often(cluster, client, cluster_ip(cluster, "sticky"), 80) in ({"web-0"}, {"web-1"})


def test_an_internal_policy_of_local_means_the_clients_node(cluster: Namespace) -> None:
    address = cluster_ip(cluster, "near")
    assert ask_often(cluster, "client", address, 80) == {"web-0"}
    assert ask_often(cluster, "client-2", address, 80) == {"web-1"}


def test_an_external_policy_of_local_leaves_all_endpoints_to_pods_and_the_node(
    cluster: Namespace, nodeless: Nodeless
) -> None:
    for client in CLIENTS:
        port = node_port(cluster, "outside")
        assert ask_often(cluster, client, nodeless.environment.address, port) == {"web-0", "web-1"}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_host_port_answers_at_the_nodes_address(cluster: Namespace, nodeless: Nodeless, client: str) -> None:
    ports = [{"containerPort": 8080, "hostPort": HOST_PORT}]
    cluster.apply(pod("host-port", container(nodeless.image, WEB, ports=ports), nodeName=nodeless.nodes[1]))
    cluster.wait_ready("host-port")
    address = nodeless.environment.address
    until_answers(lambda: ask_often(cluster, client, address, HOST_PORT, 2), {"host-port"})


def test_a_host_port_answers_at_127_0_0_1_in_hostnetwork_pods_of_the_same_node(
    cluster: Namespace, nodeless: Nodeless
) -> None:
    ports = [
        {"containerPort": 8080, "hostPort": LOOPBACK_PORT, "hostIP": "127.0.0.1"},
    ]
    cluster.apply(pod("loopback-port", container(nodeless.image, WEB, ports=ports), nodeName=nodeless.nodes[0]))
    cluster.wait_ready("loopback-port")
    until_answers(lambda: ask_once(cluster, "host-client", "127.0.0.1", LOOPBACK_PORT), {"loopback-port"})
    assert ask(cluster, "client", "127.0.0.1", LOOPBACK_PORT) == "refused"
    for client in ("host-client", "machine"):
        assert ask(cluster, client, nodeless.environment.address, LOOPBACK_PORT) == "refused"
    assert ask(cluster, "machine", "127.0.0.1", LOOPBACK_PORT) == "refused"


def test_a_load_balancer_learns_from_the_health_check_port_that_the_node_has_endpoints(
    cluster: Namespace, nodeless: Nodeless
) -> None:
    cluster.apply(make_service("balanced", type="LoadBalancer", externalTrafficPolicy="Local"))
    port = cluster.get("service", "balanced")["spec"]["healthCheckNodePort"]
    url = f"http://{nodeless.environment.address}:{port}/"

    def look() -> tuple[int, Json]:
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    name = {"namespace": cluster.name, "name": "balanced"}
    good = {"service": name, "localEndpoints": 2, "serviceProxyHealthy": True}
    until("the Node has endpoints", lambda: look() == (200, good), 20, explain=look)
    cluster.kubectl("patch", "service", "balanced", "-p", '{"spec":{"selector":{"app":"nobody"}}}')
    bad = good | {"localEndpoints": 0}
    until("the Node has no endpoints", lambda: look() == (503, bad), 20, explain=look)
    cluster.kubectl("delete", "service", "balanced")
    until("nothing listens", lambda: look()[0] == 0, 20, explain=look)


def test_the_api_servers_own_service_answers_in_a_pod(cluster: Namespace) -> None:
    script = "timeout 5 nc $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open"
    assert "open" in cluster.execute("client", script).stdout


def test_services_answer_on_while_the_provider_is_away_and_follow_the_cluster_afterwards(
    cluster: Namespace, nodeless: Nodeless
) -> None:
    address = cluster_ip(cluster, "web")
    nodeless.kill_provider()
    try:
        for client in ("host-client", "machine"):
            answers = _ask_from_instance(cluster, client, address)
            assert answers == {"web-0", "web-1"}
    finally:
        nodeless.start_provider()
    cluster.wait_ready("web-0", "web-1", "client")
    cluster.kubectl("label", "pod", "web-1", "app=other", "--overwrite")
    try:
        for client in CLIENTS:
            until_answers(partial(ask_often, cluster, client, address, 80), {"web-0"})
    finally:
        cluster.kubectl("label", "pod", "web-1", "app=web", "--overwrite")
    until_answers(lambda: ask_often(cluster, "client", address, 80), {"web-0", "web-1"})


def _ask_from_instance(cluster: Namespace, client: str, address: str) -> set[str]:
    """Without the kubelet API, which is away: on the instance itself."""
    if client == "machine":
        return ask_often(cluster, client, address, 80)
    script = f"for i in $(seq {TRIES}); do busybox timeout 3 wget -q -O - http://{address}:80/ || echo failed; done"
    return set(cluster.instance(client).run(script).split())


def test_an_endpoint_that_goes_is_asked_no_more(cluster: Namespace) -> None:
    address = cluster_ip(cluster, "web")
    cluster.kubectl("delete", "pod", "web-1", "--wait=false")
    for client in CLIENTS:
        until_answers(partial(ask_often, cluster, client, address, 80), {"web-0"})
    cluster.kubectl("delete", "pod", "web-0", "--wait=false")
    for client in CLIENTS:
        until_answers(partial(ask_once, cluster, client, address, 80), {"refused"})
