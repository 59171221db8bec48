"""A control plane on loopback, moto's server, and provider processes, one after the other."""

from __future__ import annotations

import itertools
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.api import Api, PodTimes, make_namespace
from tests.bench.cluster import ACCESS, PROVIDER_GROUPS, PROVIDER_USER, wait_healthy, wait_node_ready
from tests.bench.machine import PROJECT
from tests.cluster import approver
from tests.cluster.controlplane import ControlPlane
from tests.cluster.fixtures import running_control_plane
from tests.cluster.process import Process
from tests.moto.plan import Plan
from tests.moto.server import KEYS, Account, MotoServer
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.jsontypes import Json

NODE, ADDRESS = "ec2", "127.0.0.1"
LAUNCHES = ("RunInstances", "CreateFleet")
READS = ("Describe", "Get", "List", "Receive")


@dataclass(frozen=True, slots=True)
class Calls:
    """What AWS was asked for since some moment, by API."""

    by_api: Counter[str]

    @property
    def launches(self) -> int:
        return sum(self.by_api[api] for api in LAUNCHES)

    @property
    def writes(self) -> int:
        return sum(count for api, count in self.by_api.items() if not api.startswith(READS))

    @property
    def describes(self) -> int:
        return sum(count for api, count in self.by_api.items() if api.startswith(READS))


@dataclass(frozen=True, slots=True)
class Rig:
    """`process`: the provider that runs now."""

    plane: ControlPlane
    moto: MotoServer
    account: Account
    api: Api
    process: Process
    namespace: str

    def pod(self, name: str, cpu: str = "1", memory: str = "512Mi") -> Json:
        """Bound already."""
        container = {"name": "c", "image": "burst:1", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "burst"}},
            "spec": {"nodeName": NODE, "automountServiceAccountToken": False, "containers": [container]},
        }

    def calls(self, since: Counter[str] | None = None) -> Calls:
        return Calls(self.moto.calls() - (since or Counter()))

    async def times(self) -> PodTimes:
        made = PodTimes(self.api, self.namespace)
        await made.start()
        return made

    async def waited(self) -> int:
        """Pods that had to try a launch again by themselves: they have an event that says so."""
        path = f"/api/v1/namespaces/{self.namespace}/events?fieldSelector=reason%3DFailedLaunch"
        listed = await self.api.call("GET", path)
        return len({event["involvedObject"]["uid"] for event in listed["items"]})


@contextmanager
def surroundings() -> Iterator[tuple[ControlPlane, MotoServer]]:
    """What outlives the providers."""
    with running_control_plane(ADDRESS) as plane, MotoServer() as moto:
        for name in ACCESS:
            plane.kubectl("apply", "-f", str(PROJECT / "manifests" / "base" / name))
        approver.up(plane, approver.Policy((NODE,), (f"{ADDRESS}/32",), (PROVIDER_USER,)))
        yield plane, moto


_numbers = itertools.count(1)


@asynccontextmanager
async def provider(plane: ControlPlane, moto: MotoServer, plan: Plan | None = None) -> AsyncIterator[Rig]:
    """A fresh account, provider and namespace. plan: the faults, once the provider has started."""
    number = next(_numbers)
    moto.reset()
    account = moto.make_account()
    api, root = Api(plane), plane.state.root / f"provider-{number}"
    root.mkdir(parents=True)
    process = Process("provider", root, root)
    rig = Rig(plane, moto, account, api, process, f"ec2-{number}")
    try:
        await make_namespace(api, rig.namespace)
        kubelet, health = _free_port(), _free_port()
        config = root / "config.toml"
        config.write_text(_config(rig, root, (kubelet, health), moto.settings(account)))
        command = [sys.executable, "-m", "tests.bench.ec2.provider", "run", "--config", str(config)]
        process.start(command, {**KEYS, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(PROJECT)})
        await wait_healthy(api, process, health)
        await wait_node_ready(api, NODE, process)
        moto.plan(plan)
        yield rig
    finally:
        process.stop()
        moto.plan()
        await _clear(api, rig.namespace)
        await api.close()


async def _clear(api: Api, namespace: str) -> None:
    """Nobody is there who would end the pods: they are removed."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    await api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods", options)
    await api.call("DELETE", f"/api/v1/nodes/{NODE}")


def _free_port() -> int:
    with socket.socket() as made:
        made.bind((ADDRESS, 0))
        return int(made.getsockname()[1])


def _config(rig: Rig, root: Path, ports: tuple[int, int], aws: AwsCloudSettings) -> str:
    kubeconfig = rig.plane.kubeconfig_for(PROVIDER_USER, PROVIDER_GROUPS)
    return f"""
[cluster]
kubeconfig = "{kubeconfig}"
[[nodes]]
name = "{NODE}"
address = "{ADDRESS}"
port = {ports[0]}
taint = false
capacity = {{ cpu = "10000", memory = "40Ti", pods = "6000", ephemeral-storage = "200Ti" }}
[kubelet]
client_ca_file = "{rig.plane.ca}"
certificate_dir = "{root / "pki"}"
healthz_port = {ports[1]}
[identity]
directory = "{root / "identity"}"
[pods]
archive_dir = "{root / "logs"}"
[ledger]
file = "{root / "ledger"}"
[cloud]
backend = "aws"
owner = "bench-{rig.namespace}"
[cloud.aws]
region = "{aws.region}"
endpoint_url = "{aws.endpoint_url}"
subnets = {json.dumps(aws.subnets)}
security_groups = {json.dumps(aws.security_groups)}
image_amd64 = "{aws.image_amd64}"
instance_types = {json.dumps(aws.instance_types)}
[cloud.aws.catalog]
directory = "{aws.catalog.directory}"
price_api = false
spot_prices = false
"""
