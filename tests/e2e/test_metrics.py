"""kubectl top with the real metrics-server, and the provider's own health port."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from tests.cluster import metrics
from tests.e2e.manifest import SLEEP, container, deployment, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Iterator[Namespace]:
    image = namespace.nodeless.image
    busy = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); while :; do :; done"
    namespace.apply(
        pod(
            "busy",
            container(image, busy, resources={"limits": {"cpu": "200m", "memory": "256Mi"}}),
            nodeName=namespace.nodeless.node,
        ),
        pod(
            "idle",
            container(image, readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1}),
            nodeName=namespace.nodeless.node,
        ),
    )
    metrics.up(namespace.nodeless.plane)
    try:
        yield namespace
    finally:
        metrics.down(namespace.nodeless.plane)


def test_kubectl_top_shows_what_pods_use(world: Namespace) -> None:
    world.wait_ready("busy", "idle")

    def rows() -> dict[str, tuple[int, int]]:
        result = world.kubectl("top", "pods", "--no-headers", check=False)
        lines = [line.split() for line in result.stdout.splitlines()] if result.returncode == 0 else []
        return {name: (int(cpu.removesuffix("m")), int(memory.removesuffix("Mi"))) for name, cpu, memory in lines}

    found = until("kubectl top knows both pods", lambda: found if len(found := rows()) == 2 else None)
    until("the busy pod's CPU is seen", lambda: 100 <= rows()["busy"][0] <= 260, explain=rows)
    assert found["idle"][0] < 50
    assert found["busy"][1] >= 20 > found["idle"][1]


def test_kubectl_top_shows_what_the_nodes_instances_use(world: Namespace) -> None:
    world.wait_ready("busy")

    def rows() -> dict[str, list[str]]:
        result = world.kubectl("top", "nodes", "--no-headers", check=False)
        return {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}

    until("kubectl top knows both Nodes", lambda: set(rows()) == set(world.nodeless.nodes), explain=rows)
    until(
        "the Node's CPU is not nothing", lambda: rows()[world.nodeless.node][0] not in ("0m", "<unknown>"), explain=rows
    )


def test_the_api_server_reaches_the_kubelets_own_metrics(world: Namespace) -> None:
    world.wait_ready("busy")
    text = world.kubectl("get", "--raw", f"/api/v1/nodes/{world.nodeless.node}/proxy/metrics").stdout
    for name in ("vk_pods", "vk_pod_launch_seconds", "vk_pod_running_seconds", "vk_api_requests"):
        assert name in text, f"no {name} in /metrics"
    summary = world.kubectl("get", "--raw", f"/api/v1/nodes/{world.nodeless.node}/proxy/stats/summary").stdout
    assert '"busy"' in summary


def test_the_results_of_probes_are_counted(world: Namespace) -> None:
    world.wait_ready("idle")
    path = f"/api/v1/nodes/{world.nodeless.node}/proxy/metrics/probes"

    def line() -> str:
        text = world.kubectl("get", "--raw", path).stdout
        return next((line for line in text.splitlines() if line.startswith("prober_probe_total{")), "")

    found = until("probes are counted", line)
    assert 'pod="idle"' in found and 'probe_type="Readiness",result="successful"}' in found


def test_the_health_port_answers(nodeless: Nodeless) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{nodeless.environment.healthz_port}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_an_autoscaler_follows_the_load_to_five_pods_and_back(world: Namespace) -> None:
    """`make demo-hpa` shows the same over time. One pod under load uses six times the target, so the first step leads
    to five of them."""
    resources = {"requests": {"cpu": "40m", "memory": "64Mi"}, "limits": {"cpu": "120m", "memory": "64Mi"}}
    script = f'trap "exit 0" TERM; while [ ! -e /tmp/quiet ]; do :; done; {SLEEP}'
    world.apply(
        deployment("burner", 1, container(world.nodeless.image, script, resources=resources)),
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "burner"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "burner"},
                "maxReplicas": 5,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                    }
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    )
    pods = world.wait_deployed("burner", 5)
    assert len({world.nodeless.instances.of_pod(each["metadata"]["uid"]).pid for each in pods}) == 5
    for each in pods:
        world.execute(each["metadata"]["name"], "touch /tmp/quiet")
    (left,) = world.wait_deployed("burner", 1)

    def instances() -> set[str]:
        live = world.nodeless.instances.live()
        return {each.pod_uid for each in live if each.record.tags.get("pod/app") == "burner"}

    until("one instance is left", lambda: instances() == {left["metadata"]["uid"]}, explain=instances)
    world.kubectl("delete", "hpa,deployment", "burner")
