"""A Deployment spread over both kinds of nodes is rolled under load from both: no request fails."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from tests.demo.environment import NODE
from tests.e2e.manifest import deployment
from tests.e2e.nodeless import is_deleting
from tests.e2e.until import until
from tests.mixed.world import KUBELET, NODES, PORTS, TARGETS, TCP, TRIES, Mixed, make_service
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

NAME, REPLICAS = "rolled", 4
DRAIN_S = 5
"""A pod serves so long after its deletion, until every proxy has heard of it: without it requests fail on any node."""
ROLL_LIMIT_S = 180
LOOP = (
    "rm -f {stop}; until [ -e {stop} ]; do curl -sS --max-time 5 -w ' %{{http_code}}\\n' '{url}' 2>&1; sleep 0.1; done"
)


def make_deployment(mixed: Mixed) -> Json:
    """Half of its pods on each node, before, during and after a roll."""
    container = {
        "name": "main",
        "image": mixed.image,
        "args": ["netexec"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": TARGETS[TCP]}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": NAME}},
        "matchLabelKeys": ["pod-template-hash"],
    }
    made = deployment(
        NAME, REPLICAS, container, topologySpreadConstraints=[spread], terminationGracePeriodSeconds=DRAIN_S + 10
    )
    made["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    return made


@pytest.fixture(scope="module")
def rolled(mixed: Mixed) -> Iterator[Mixed]:
    space = mixed.namespace
    space.apply(make_deployment(mixed), make_service(NAME, {"app": NAME}, type="NodePort"))
    try:
        space.wait_deployed(NAME, REPLICAS)
        mixed.wait_endpoints(NAME, REPLICAS)
        yield mixed
    finally:
        space.kubectl("delete", "deployment,service", NAME)


def ways(mixed: Mixed) -> dict[tuple[str, str], str]:
    """(client, how) -> URL: from each node by name and ClusterIP, and by a port of the other node."""
    port = mixed.node_port(NAME)
    urls = {"name": f"http://{NAME}/hostname", "address": f"http://{mixed.cluster_ip(NAME)}:{PORTS[TCP]}/hostname"}
    found = {(f"client-{node}", how): url for node in NODES for how, url in urls.items()}
    for node, other in ((NODE, KUBELET), (KUBELET, NODE)):
        found[f"client-{node}", "node port"] = f"http://{mixed.node_addresses[other]}:{port}/hostname"
    return found


@contextmanager
def load(mixed: Mixed, seen: dict[tuple[str, str], list[str]]) -> Iterator[None]:
    """Requests one after the other on each way while the block runs. `seen` then has their lines: "server 200"."""
    with ExitStack() as stack:
        running: dict[tuple[str, str], subprocess.Popen[str]] = {}
        for number, ((client, how), url) in enumerate(ways(mixed).items()):
            script = LOOP.format(stop=f"/tmp/enough-{number}", url=url)
            running[client, how] = stack.enter_context(
                mixed.namespace.background("exec", client, "--", "sh", "-c", script)
            )
        try:
            yield
        finally:
            for number, (client, _) in enumerate(running):
                mixed.namespace.execute(client, f"touch /tmp/enough-{number}")
            for way, process in running.items():
                seen[way] = process.communicate(timeout=30)[0].splitlines()


def asks_all(mixed: Mixed, client: str, servers: set[str]) -> bool:
    return mixed.dial(client, mixed.cluster_ip(NAME), PORTS[TCP], tries=TRIES).kinds == servers


def test_rolling_a_deployment_of_both_nodes_under_load_fails_no_request(rolled: Mixed) -> None:
    space = rolled.namespace
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in space.pods_of(NAME)}
    assert Counter(before.values()) == {node: REPLICAS // 2 for node in NODES}
    for node in NODES:
        until("all are asked", partial(asks_all, rolled, f"client-{node}", set(before)))
    seen: dict[tuple[str, str], list[str]] = {}
    with load(rolled, seen):
        space.kubectl("rollout", "restart", f"deployment/{NAME}")
        space.kubectl(
            "rollout", "status", f"deployment/{NAME}", f"--timeout={ROLL_LIMIT_S}s", timeout_s=ROLL_LIMIT_S + 10
        )
        until("the old pods are gone", lambda: not set(before) & {p["metadata"]["name"] for p in space.pods_of(NAME)})
    after = {p["metadata"]["name"]: p["spec"]["nodeName"] for p in space.pods_of(NAME) if not is_deleting(p)}
    assert set(after.values()) == set(NODES)
    failed = {way: [line for line in lines if not line.endswith(" 200")] for way, lines in seen.items()}
    print({way: f"{len(failed[way])} of {len(lines)} failed" for way, lines in seen.items()})
    assert failed == {way: [] for way in seen}
    for node in NODES:
        lines = [line for (client, _), found in seen.items() if client == f"client-{node}" for line in found]
        assert len(lines) > 60
        servers = {line.split()[0] for line in lines}
        assert {before.get(name) for name in servers} >= set(NODES), "old pods of both nodes"
        assert {after.get(name) for name in servers} >= set(NODES), "new pods of both nodes"
    assert all(seen.values())
