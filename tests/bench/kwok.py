"""KWOK beside the provider: one node of its own, the fast stages that it is published with, no other setting."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import aiohttp

from tests.bench.api import Api
from tests.bench.cluster import BenchCluster, wait_node_ready
from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.process import Process
from tests.cluster.targets import KWOK, KWOK_MODULE

NODE = "kwok"
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


async def start_kwok(cluster: BenchCluster, api: Api, capacity: int) -> Process:
    """The process, once its node is Ready."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"type": "kwok"}},
        "status": {"allocatable": {"cpu": "10000", "memory": "40Ti", "pods": str(capacity)}},
    }
    try:
        await api.call("POST", "/api/v1/nodes", node)
    except aiohttp.ClientResponseError as error:
        if error.status != 409:
            raise
    process = cluster.plane.state.process("kwok")
    program = str(build.ensure("kwok"))
    arguments = ["--kubeconfig", str(cluster.plane.kubeconfig), "--manage-single-node", NODE, "--v", "WARN"]
    for stage in STAGES:
        arguments += ["--config", str(_module_directory() / "kustomize" / "stage" / stage)]
    process.start([program, *arguments])
    await wait_node_ready(api, NODE, process)
    return process


def _module_directory() -> Path:
    """KWOK's module in the Go module cache, where its stages are."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", KWOK]
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    done = subprocess.run(command, cwd=KWOK_MODULE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise ClusterError(f"go list -m {KWOK}: {done.stderr.strip()}", "look whether the Go module cache is writable")
    return Path(done.stdout.strip())
