"""Brings the demo's cluster up and down: network, registry, control plane, provider. Idempotent both ways."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.cluster import approver, build, dns, metrics
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.images.__main__ import ensure_pushed
from tests.cluster.kubelet.node import KubeletNode
from tests.cluster.registry import Registry
from tests.cluster.state import StateDir
from tests.demo.aws import AwsSide
from tests.demo.environment import (
    API_PORT,
    CLUSTER_DNS,
    KUBELET_PORT,
    NODE,
    PROJECT,
    PROVIDER_GROUPS,
    PROVIDER_USER,
    REGISTRY_PORT,
    Environment,
)
from tests.demo.terminal import step

READY_LIMIT_S = 120.0
ACCESS_MANIFESTS = (
    "namespace.yaml",
    "serviceaccount.yaml",
    "clusterrole.yaml",
    "clusterrolebinding.yaml",
    "lease-role.yaml",
    "client-ca-role.yaml",
)


def control_plane(environment: Environment) -> ControlPlane:
    return ControlPlane(StateDir(environment.cluster_state))


def registry(environment: Environment) -> Registry:
    storage = environment.root / "images" if environment.own_registry else None
    return Registry(environment.registry_state, environment.registry, storage)


def require_machine() -> None:
    """What only the user can mend, said before anything is started."""
    if os.geteuid() != 0:
        raise ClusterError("the local cloud makes namespaces and needs root", "run the same command with sudo")


def require_ports(environment: Environment, plane: ControlPlane) -> None:
    """Nobody else may listen where ours are going to. The network is up: one of the addresses is on it."""
    provider = environment.provider.pid() is not None
    resolver = plane.state.process(dns.RESOLVER).pid() is not None
    kubelets = [KUBELET_PORT + index for index in range(1 + len(environment.more_nodes))]
    for what, running, address, port in (
        ("image registry", registry(environment).running, environment.address, REGISTRY_PORT),
        ("API server", plane.state.process("kube-apiserver").pid() is not None, environment.address, API_PORT),
        *(("kubelet API", provider, environment.address, port) for port in kubelets),
        *((("instances' resolver", resolver, environment.address, dns.RESOLVER_PORT),) if environment.resolver else ()),
        ("provider's /healthz", provider, "127.0.0.1", environment.healthz_port),
        *(
            (("moto server", AwsSide(environment).server.pid() is not None, "127.0.0.1", environment.moto_port),)
            if environment.cloud == "aws"
            else ()
        ),
    ):
        if not running and not _is_free(address, port):
            advice = f"stop what listens there (`ss -ltnp 'sport = :{port}'` names it), then try again"
            raise ClusterError(f"port {port}, which the {what} needs, is taken", advice)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # what else is wrong, its user says better
    return True


def up(environment: Environment) -> ControlPlane:
    """Everything up to a Ready node; returns the control plane."""
    require_machine()
    environment.save()
    plane = control_plane(environment)
    binaries = plane.binaries
    if environment.resolver or environment.dns:
        build.ensure("coredns")
    subnets = " and ".join(filter(None, (environment.subnet, environment.ipv6_subnet)))
    with step(f"network {subnets}, this machine is {environment.address}"):
        if environment.cloud == "aws":
            AwsSide(environment).network_up()
        else:
            local_cloud(environment, "up")
    require_ports(environment, plane)
    with step(f"image registry {environment.registry}") as notes:
        registry(environment).up()
        sample = "sample" if environment.preload_images == ("busybox:latest",) else None
        ensure_pushed(environment.registry, "mesh" if environment.mesh else sample, notes)
        if environment.dns:
            ensure_pushed(environment.registry, "coredns", notes)
    with step(f"control plane {binaries.version}"):
        plane.up(environment.address, API_PORT, dual_stack=bool(environment.ipv6_subnet))
        if environment.resolver:
            dns.resolver_up(plane, environment.name)
    if environment.cloud == "aws":
        with step("moto server as EC2, and the booter of its instances"):
            AwsSide(environment).up()
    with step("provider's account, roles and certificate approver"):
        prepare_access(environment, plane)
    with step(f"provider with the {environment.cloud} cloud"):
        start_provider(environment, plane)
    with step(f"node {NODE} Ready"):
        wait_ready(environment, plane)
    if environment.dns:
        with step(f"cluster DNS {CLUSTER_DNS}"):
            dns.up(plane, environment.registry)
            dns.wait(plane)
    if environment.kubelet_node:
        with step(f"node {environment.kubelet_node} of a real kubelet Ready") as notes:
            kubelet_node(environment).up(plane, environment.registry, environment.preload, CLUSTER_DNS, notes)
    return plane


def kubelet_node(environment: Environment) -> KubeletNode:
    """The real kubelet beside ours."""
    return KubeletNode(
        environment.kubelet_state,
        environment.name,
        environment.kubelet_node,
        environment.kubelet_network,
        environment.cloud_device,
    )


def local_cloud(environment: Environment, verb: str) -> None:
    """`vk-provider local-cloud up|down`."""
    command = [
        sys.executable,
        "-m",
        "vk_provider",
        "local-cloud",
        verb,
        "--name",
        environment.name,
        "--subnet",
        environment.subnet,
        "--ipv6-subnet",
        environment.ipv6_subnet,
        "--state-dir",
        str(environment.cloud_state),
    ]
    result = subprocess.run(
        command, env=environment.provider_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ClusterError(
            f"local cloud {verb}: {result.stderr.strip() or result.stdout.strip()}",
            "mend what it says, or `make demo-down` and start again",
        )


def prepare_access(environment: Environment, plane: ControlPlane) -> None:
    """The provider runs with the roles of manifests/base and nothing else."""
    for name in ACCESS_MANIFESTS:
        plane.kubectl("apply", "-f", str(PROJECT / "manifests" / "base" / name))
    policy = approver.Policy((NODE, f"{NODE}-*"), (environment.subnet, "127.0.0.0/8"), (PROVIDER_USER,))
    approver.up(plane, policy)


def start_provider(environment: Environment, plane: ControlPlane) -> None:
    kubeconfig = plane.kubeconfig_for(PROVIDER_USER, PROVIDER_GROUPS)
    aws = AwsSide(environment) if environment.cloud == "aws" else None
    text = environment.provider_config(kubeconfig, plane.ca, aws.provider_config() if aws is not None else "")
    process = environment.provider
    changed = not environment.config_file.exists() or environment.config_file.read_text() != text
    if changed:
        process.stop()
        environment.config_file.write_text(text)
    process.start(
        [sys.executable, "-m", "vk_provider", "run", "--config", str(environment.config_file)],
        {**environment.provider_environment(), **(aws.sdk_environment() if aws is not None else {})},
    )


def wait_ready(environment: Environment, plane: ControlPlane) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        environment.provider.require_alive()
        if _node_is_ready(plane) and _healthz(environment):
            return
        time.sleep(0.2)
    raise ClusterError(
        f"node {NODE} did not become Ready within {READY_LIMIT_S:.0f} s", f"read {environment.provider.log}"
    )


def _node_is_ready(plane: ControlPlane) -> bool:
    result = plane.kubectl("get", "node", NODE, "-o", "json", check=False)
    if result.returncode != 0:
        return False
    conditions = json.loads(result.stdout).get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _healthz(environment: Environment) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environment.healthz_port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def metrics_server(environment: Environment) -> None:
    """metrics-server beside what is up, for `kubectl top`; `down` ends it with the control plane."""
    build.ensure("metrics-server")
    with step("metrics-server"):
        metrics.up(control_plane(environment))
    print("`kubectl top nodes` and `kubectl top pods` answer within half a minute.", flush=True)


def _cloud_down(environment: Environment) -> None:
    if environment.cloud == "aws":
        AwsSide(environment).down()
    else:
        local_cloud(environment, "down")


def down(environment: Environment) -> None:
    """Stop and remove everything outside the cache; works after a crash and a second time. What fails keeps nothing
    else from going; its state stays, so that the next try finds it."""
    require_machine()
    errors: list[ClusterError] = []
    real = [("real kubelet", kubelet_node(environment).down)] if environment.kubelet_node else []
    for title, remove in (
        *real,
        ("provider", environment.provider.stop),
        ("instances and network", lambda: _cloud_down(environment)),
        ("control plane", control_plane(environment).down),
        ("image registry", registry(environment).down),
    ):
        try:
            with step(title):
                remove()
        except ClusterError as error:
            print(f"\n{title}: {error}", flush=True)
            errors.append(error)
    if errors:
        raise errors[0]
    with step("state"):
        shutil.rmtree(environment.root, ignore_errors=True)


def remove_bytecode() -> None:
    """The agents' bytecode, which Python has put beside the code: it is outside the cache, too."""
    for path in sorted((PROJECT / "vk_provider").rglob("__pycache__")):
        shutil.rmtree(path, ignore_errors=True)


def kubeconfig(environment: Environment) -> Path:
    return control_plane(environment).kubeconfig
