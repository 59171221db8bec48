"""metrics-server as a process of this machine, registered with the API server, so that `kubectl top` works."""

from __future__ import annotations

import base64
import ipaddress
import socket
import time
from pathlib import Path
from typing import Any

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.pki import Authority

NAME = "metrics-server"
NAMESPACE = "kube-system"
APISERVICE = "v1beta1.metrics.k8s.io"
RBAC = "rbac.authorization.k8s.io"
SLICE = f"{NAME}-host"
READY_S = 120.0


def up(plane: ControlPlane) -> None:
    """Start it and wait until the API server can reach it. Raises ClusterError."""
    address = plane.state.require().address
    if ipaddress.ip_address(address).is_loopback:
        raise ClusterError(
            f"the API server of {plane.state.root} is on {address}, and a Service cannot lead to a loopback address",
            "start the control plane with --address of a bridge or an interface",
        )
    program = build.ensure("metrics-server")
    process = plane.state.process(NAME)
    port = _running_port(plane) if process.pid() else _free_port(address)
    serving, kubeconfig = _issue(plane, address)
    _apply(plane, _manifests(plane, address, port))
    process.start([str(program), *_arguments(plane, address, port, serving, kubeconfig)])
    _wait(plane)


def down(plane: ControlPlane) -> None:
    """Stop it and take its registration away."""
    if plane.state.process("kube-apiserver").pid():
        plane.kubectl("delete", "apiservice", APISERVICE, "--ignore-not-found")
        plane.kubectl("delete", "service,endpointslice", "-n", NAMESPACE, NAME, SLICE, "--ignore-not-found")
    plane.state.process(NAME).stop()


def _issue(plane: ControlPlane, address: str) -> tuple[tuple[Path, Path], Path]:
    hosts = [f"{NAME}.{NAMESPACE}.svc", f"{NAME}.{NAMESPACE}", NAME, address]
    serving = Authority(plane.state.pki, "ca").issue_server(NAME, NAME, hosts)
    return serving, plane.kubeconfig_for(NAME)


def _arguments(plane: ControlPlane, address: str, port: int, serving: tuple[Path, Path], kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={address}",
        f"--secure-port={port}",
        f"--tls-cert-file={serving[0]}",
        f"--tls-private-key-file={serving[1]}",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-use-node-status-port",
        f"--kubelet-certificate-authority={plane.ca}",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    ]


def _manifests(plane: ControlPlane, address: str, port: int) -> dict[str, dict[str, Any]]:
    """Path -> object: roles, a Service whose only endpoint is this process, and the registration of the API."""
    reads = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": f"system:{NAME}"}, "rules": reads}
    service_port = {"name": "https", "port": 443, "protocol": "TCP"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"ports": [service_port]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": SLICE, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": APISERVICE},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": NAME, "namespace": NAMESPACE, "port": 443},
            "caBundle": base64.b64encode(plane.ca.read_bytes()).decode(),
        },
    }
    roles, bindings = f"/apis/{RBAC}/v1/clusterroles", f"/apis/{RBAC}/v1/clusterrolebindings"
    core, slices = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}"
    reader = "extension-apiserver-authentication-reader"
    return {
        f"{roles}/system:{NAME}": role,
        f"{bindings}/system:{NAME}": _binding(f"system:{NAME}", "ClusterRole", f"system:{NAME}"),
        f"{bindings}/{NAME}:delegator": _binding(f"{NAME}:delegator", "ClusterRole", "system:auth-delegator"),
        f"/apis/{RBAC}/v1/namespaces/{NAMESPACE}/rolebindings/{NAME}": _binding(NAME, "Role", reader),
        f"{core}/services/{NAME}": service,
        f"{slices}/endpointslices/{SLICE}": endpoints,
        f"/apis/apiregistration.k8s.io/v1/apiservices/{APISERVICE}": registration,
    }


def _binding(name: str, role_kind: str, role: str) -> dict[str, Any]:
    namespaced = {"namespace": NAMESPACE} if role_kind == "Role" else {}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding" if namespaced else "ClusterRoleBinding",
        "metadata": {"name": name, **namespaced},
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": NAME}],
    }


def _apply(plane: ControlPlane, manifests: dict[str, dict[str, Any]]) -> None:
    for path, manifest in manifests.items():
        plane.rest.apply(path, manifest)


def _running_port(plane: ControlPlane) -> int:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/{SLICE}"
    return int(plane.rest.get(path)["ports"][0]["port"])


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(plane: ControlPlane) -> None:
    """Until the registered API is answered through the API server."""
    process, deadline = plane.state.process(NAME), time.monotonic() + READY_S
    while not plane.rest.answers("/apis/metrics.k8s.io/v1beta1"):
        process.require_alive()
        if time.monotonic() > deadline:
            raise ClusterError(f"{NAME} is not reachable:\n{process.last_lines()}", f"read {process.log}")
        time.sleep(0.1)
