"""`vk-provider net explain` says what a real connection then does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import dns
from tests.cluster.images.__main__ import ensure_pushed
from tests.e2e.manifest import SLEEP, container, network_policy, pod, pods_of, service
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
SERVE = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"
READY = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
UNUSED = "10.96.251.252"
"""Of the Services' network, and no Service's."""
DNS_ALLOWED = {"ports": [{"protocol": name, "port": 53} for name in ("UDP", "TCP")]}


@dataclass(frozen=True)
class Case:
    """written: TARGET; host: what the pod really asks, a Service's ClusterIP where it is empty; outcome: of both."""

    source: str
    written: str
    host: str
    port: int
    outcome: str
    words: str


def at(item: Json, port: int, target: int = 8080, app: str = "web", **fields: object) -> Json:
    item["spec"] |= {
        "selector": {"app": app},
        "ports": [{"name": "http", "port": port, "targetPort": target}],
        **fields,
    }
    return item


@pytest.fixture(scope="module")
def cluster_dns(nodeless: Nodeless) -> Iterator[None]:
    registry = nodeless.environment.registry
    ensure_pushed(registry, "coredns")
    with dns.running(nodeless.plane, registry):
        yield


@pytest.fixture(scope="module")
def world(cluster_dns: None, namespace: Namespace) -> Namespace:
    """Two servers on two Nodes, one that lets in a friend alone, a client without policies, one that may go to the two
    servers alone, and one that may not even ask DNS."""
    nodeless = namespace.nodeless
    image, (first, second) = nodeless.image, nodeless.nodes
    namespace.apply(
        network_policy("locked", "locked", ingress=[{"from": [pods_of("friend")]}]),
        network_policy("penned", "penned", policyTypes=["Egress"], egress=[{"to": [pods_of("web")]}, DNS_ALLOWED]),
        network_policy(
            "mute", "mute", policyTypes=["Egress"], egress=[{"to": [pods_of("web")], "ports": [{"port": 8080}]}]
        ),
        at(service("web", 80), 80),
        at(service("none", 80), 80, app="nobody"),
        at(service("locked", 80), 80, app="locked"),
        at(service("peers", 8080), 8080, clusterIP="None"),
        at(service("ports", 80), 80, type="NodePort"),
        at(service("near", 80), 80, app="far", internalTrafficPolicy="Local"),
    )
    outside = {"type": "ExternalName", "externalName": f"web.{namespace.name}.svc.cluster.local"}
    namespace.apply({**service("outside", 80), "spec": outside})
    serving = container(image, SERVE, readinessProbe=READY)
    namespace.apply(
        pod("web-0", serving, labels={"app": "web"}, nodeName=first),
        pod("web-1", serving, labels={"app": "web"}, nodeName=second),
        pod("far", serving, nodeName=second),
        pod("locked", serving, nodeName=first),
        *(pod(name, container(image, SLEEP), nodeName=first) for name in ("client", "friend", "penned", "mute")),
        pod(
            "host-client",
            container(image, SLEEP),
            nodeName=first,
            hostNetwork=True,
            dnsPolicy="ClusterFirstWithHostNet",
        ),
    )
    namespace.wait_ready("web-0", "web-1", "far", "locked", "client", "friend", "penned", "mute", "host-client")
    for name, size in (("web", 2), ("locked", 1), ("near", 1), ("peers", 2), ("ports", 2)):
        until(f"the endpoints of {name}", lambda name=name, size=size: len(namespace.ready_endpoints(name)) == size)
    return namespace


def run(world: Namespace, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vk_provider", "net", "explain", "-n", world.name]
    command += ["--kubeconfig", str(kubeconfig or world.nodeless.plane.kubeconfig), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def explain(world: Namespace, source: str, written: str) -> Json:
    done = run(world, "-o", "json", source, written)
    assert done.returncode in (0, 1), done.stderr
    answer: Json = json.loads(done.stdout)
    assert answer["verdict"]["connects"] == (done.returncode == 0)
    return answer


def connect(world: Namespace, source: str, host: str, port: int) -> str:
    """What a real connection does, in the words of an explanation."""
    done = world.execute(source, f"timeout 6 wget -q -O - http://{host}:{port} 2>&1", check=False)
    if done.returncode == 0:
        return "connects"
    return "refused" if "refused" in done.stdout else "unresolved" if "bad address" in done.stdout else "dropped"


CASES = (
    Case("client", "web", "", 80, "connects", "connects to one of 2 endpoints of Service {ns}/web"),
    Case("client", "web:http", "web", 80, "connects", "connects to one of 2 endpoints"),
    Case("client", "web.{ns}.svc.cluster.local:80", "web.{ns}.svc.cluster.local", 80, "connects", "one of 2 endpoints"),
    Case("host-client", "web:80", "", 80, "connects", "connects to one of 2 endpoints"),
    Case("client", "none:80", "", 80, "refused", "Service {ns}/none has no ready endpoint"),
    Case("client", "web:81", "", 81, "refused", "Service {ns}/web has no port 81/TCP"),
    Case("client", "nosuch:80", "nosuch", 80, "unresolved", "no Service 'nosuch' in namespace '{ns}'"),
    Case("client", f"{UNUSED}:80", UNUSED, 80, "dropped", f"no Service has the address {UNUSED}"),
    Case("client", "near:80", "", 80, "dropped", "Service {ns}/near has endpoints on other Nodes only"),
    Case("penned", "web:80", "", 80, "connects", "connects to one of 2 endpoints"),
    Case(
        "penned",
        "locked:80",
        "",
        80,
        "dropped",
        "select pod {ns}/penned for egress ({ns}/penned): none allows TCP 8080",
    ),
    Case(
        "client",
        "locked:80",
        "",
        80,
        "dropped",
        "select pod {ns}/locked for ingress ({ns}/locked): none allows TCP 8080",
    ),
    Case("friend", "locked:80", "", 80, "connects", "the only endpoint of Service {ns}/locked"),
    Case("client", "peers:8080", "peers", 8080, "connects", "DNS gives the addresses of the pods"),
    Case("client", "peers:80", "peers", 80, "refused", "its endpoints listen on 8080, not 80/TCP"),
    Case("client", "outside:80", "outside", 80, "connects", "connects to one of 2 endpoints of Service {ns}/web"),
    Case("client", "outside:81", "outside", 81, "refused", "Service {ns}/web has no port 81/TCP"),
    Case("client", "{node}:{port}", "{node}", 0, "connects", "connects to one of 2 endpoints of Service {ns}/ports"),
    Case("client", "pod/web-0:8080", "{web-0}", 8080, "connects", "connects to {ns}/web-0"),
    Case("client", "{locked}:8080", "{locked}", 8080, "dropped", "select pod {ns}/locked for ingress"),
    Case("web-0", "web:80", "", 80, "connects", "connects to one of 2 endpoints"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source} to {case.written}")
def test_an_explanation_agrees_with_a_real_connection(world: Namespace, case: Case) -> None:
    host = fill(world, case.host) or world.get("service", case.written.partition(":")[0])["spec"]["clusterIP"]
    port = case.port or int(fill(world, "{port}"))
    answer = explain(world, case.source, fill(world, case.written))
    assert answer["verdict"]["outcome"] == case.outcome == connect(world, case.source, host, port), answer
    assert fill(world, case.words) in answer["verdict"]["text"], answer["verdict"]
    assert answer["source"]["agent"] == "" and {table["name"] for table in answer["source"]["tables"]} == {
        "services",
        "policy",
    }


def fill(world: Namespace, text: str) -> str:
    """Put what is known of the cluster into a case's text."""
    known = {"ns": world.name, "node": world.nodeless.environment.address}
    if "{port}" in text:
        known["port"] = str(world.get("service", "ports")["spec"]["ports"][0]["nodePort"])
    for name in ("web-0", "locked"):
        if f"{{{name}}}" in text:
            known[name] = str(world.pod(name)["status"]["podIP"])
    return text.format(**known)


def test_the_kernels_counters_are_told(world: Namespace) -> None:
    assert connect(world, "penned", world.get("service", "locked")["spec"]["clusterIP"], 80) == "dropped"
    (egress,) = [item for item in explain(world, "penned", "locked")["policies"] if item["direction"] == "egress"]
    assert not egress["allowed"] and egress["drops"] > 0
    (ingress,) = [item for item in explain(world, "client", "locked")["policies"] if item["direction"] == "ingress"]
    before = ingress["drops"]
    assert connect(world, "client", world.get("service", "locked")["spec"]["clusterIP"], 80) == "dropped"
    (ingress,) = [item for item in explain(world, "client", "locked")["policies"] if item["direction"] == "ingress"]
    assert ingress["drops"] > before
    assert connect(world, "client", "web", 80) == "connects"
    seen = explain(world, "client", "web")["seen"]
    assert seen["connections"] >= seen["answered"] >= 1 and sum(seen["byEndpoint"].values()) == seen["connections"]


def test_a_pod_that_may_not_ask_dns_is_told_so(world: Namespace) -> None:
    answer = explain(world, "mute", "web")
    assert (
        answer["verdict"]["outcome"]
        == "connects"
        == connect(world, "mute", world.get("service", "web")["spec"]["clusterIP"], 80)
    )
    assert connect(world, "mute", "web", 80) != "connects"  # its resolver waits for an answer
    assert any(note.startswith("by address alone: the pod may not ask the cluster's DNS") for note in answer["notes"])


def test_the_text_is_short_and_ends_with_the_verdict_and_the_next_step(world: Namespace) -> None:
    done = run(world, "client", "locked")
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and len(lines) < 16 and not done.stderr, done
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == ["POD", "TARGET", "ENDPOINT", "POLICY", "SEEN"]
    assert lines[-2].startswith(f"=> dropped by the policies that select pod {world.name}/locked for ingress")
    assert lines[-1] == f"   next: kubectl -n {world.name} describe networkpolicy locked"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("client", "web:none-such"), "has no port of the name 'none-such'; its ports are http 80/TCP"),
        (("client", "192.0.2.1"), "say the port: 192.0.2.1:PORT"),
        (("client", "web:0"), "neither a port nor the name of one: '0'"),
        (("nobody", "web"), 'pods "nobody" not found'),
        (("../client", "web"), "POD is written NAME or NAMESPACE/NAME"),
    ],
)
def test_a_question_that_cannot_be_answered_is_a_bad_request(
    world: Namespace, arguments: tuple[str, str], says: str
) -> None:
    done = run(world, *arguments)
    assert done.returncode == 2 and says in done.stderr and done.stdout == "", done


def test_it_takes_the_permission_for_the_nodes_proxy(world: Namespace) -> None:
    """Who may read pods and nothing else learns nothing of the cluster's network."""
    reader = world.nodeless.plane.kubeconfig_for("pod-reader")
    world.kubectl("create", "role", "pod-reader", "--verb=get", "--resource=pods")
    world.kubectl("create", "rolebinding", "pod-reader", "--role=pod-reader", "--user=pod-reader")
    done = run(world, "client", "web", kubeconfig=reader)
    assert done.returncode == 3 and "nodes" in done.stderr and "proxy" in done.stderr and done.stdout == "", done
