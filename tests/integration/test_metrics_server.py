"""metrics-server beside the control plane: it scrapes a kubelet over verified TLS, and kubectl top shows it."""

import http.server
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import metrics
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.fixtures import running_control_plane
from tests.cluster.pki import Authority

NODE = "vk-metrics"
# An address that is not a loopback address to Kubernetes, on an interface that leads nowhere else.
ADDRESS = "10.255.211.1"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True)
    try:
        with running_control_plane(ADDRESS) as running:
            yield running
    finally:
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


@pytest.mark.real
def test_kubectl_top_shows_what_a_kubelet_says_of_nodes_and_pods(plane: ControlPlane) -> None:
    with kubelet(plane) as paths:
        metrics.up(plane)
        metrics.up(plane)  # once is enough, twice is fine
        nodes = wait_for_top(plane, "nodes")
        pods = wait_for_top(plane, "pods")
    node_name, node_cpu = nodes.split()[:2]
    pod_name, pod_cpu, pod_memory = pods.split()
    assert (node_name, pod_name, pod_memory) == (NODE, "scripted", "64Mi")
    # Half and a quarter of a CPU; the figures are rates between two scrapes and rounded up.
    assert 490 <= int(node_cpu.removesuffix("m")) <= 510
    assert 240 <= int(pod_cpu.removesuffix("m")) <= 260
    assert set(paths) == {"/metrics/resource"}
    metrics.down(plane)
    assert "Metrics API not available" in plane.kubectl("top", "nodes", check=False).stderr


def test_on_loopback_it_says_what_to_do_instead(control_plane: ControlPlane) -> None:
    with pytest.raises(ClusterError, match="next:  start the control plane with --address of a bridge"):
        metrics.up(control_plane)


def wait_for_top(plane: ControlPlane, what: str) -> str:
    """The lines of `kubectl top`; a rate needs two scrapes, 15 s apart."""
    deadline = time.monotonic() + 60
    while True:
        result = plane.kubectl("top", what, "--no-headers", check=False)
        if result.returncode == 0 and "unknown" not in result.stdout and result.stdout:
            return result.stdout
        assert time.monotonic() < deadline, result.stderr
        time.sleep(1)


@contextmanager
def kubelet(plane: ControlPlane) -> Iterator[list[str]]:
    """A Node with one pod whose kubelet reports half a core for the node and a quarter of one for the pod."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(resource_metrics(time.time()).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    serving = Authority(plane.state.pki, "ca").issue_server("scripted-kubelet", f"system:node:{NODE}", [ADDRESS])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*serving)
    with http.server.ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, name="kubelet", daemon=True).start()
        register(plane, server.server_address[1])
        try:
            yield paths
        finally:
            server.shutdown()


def register(plane: ControlPlane, port: int) -> None:
    """The Node of the scripted kubelet, and a running pod on it."""
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    node_status = {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": ADDRESS}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    plane.rest.apply(f"/api/v1/nodes/{NODE}", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    subresource = ("--subresource=status", "--type=merge", "-p")
    plane.kubectl("patch", "node", NODE, *subresource, json.dumps({"status": node_status}))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scripted", "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "c", "image": "none"}],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    plane.rest.apply("/api/v1/namespaces/default/pods/scripted", pod)
    plane.kubectl("patch", "pod", "scripted", *subresource, json.dumps({"status": {"phase": "Running"}}))


def resource_metrics(now: float) -> str:
    """What a kubelet's /metrics/resource says at `now` (Unix seconds)."""
    milliseconds, started = int(now * 1000), 1.7e9
    container = 'container="c",namespace="default",pod="scripted"'
    return (
        f"node_cpu_usage_seconds_total {(now - started) * 0.5} {milliseconds}\n"
        f"node_memory_working_set_bytes {1 << 30} {milliseconds}\n"
        f"container_cpu_usage_seconds_total{{{container}}} {(now - started) * 0.25} {milliseconds}\n"
        f"container_memory_working_set_bytes{{{container}}} {64 << 20} {milliseconds}\n"
        f"container_start_time_seconds{{{container}}} {now - 1000}\n"
    )
