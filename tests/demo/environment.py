"""What the demo is made of: paths, addresses, the provider's configuration. No processes here."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tests.cluster import containerd2
from tests.cluster.cache import cache_dir
from tests.cluster.images.catalog import COREDNS, select_entries
from tests.cluster.process import Process
from tests.cluster.state import CLUSTER_DNS
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.ipv6 import host_address

PROJECT = Path(__file__).resolve().parents[2]
PROVIDER_USER = "system:serviceaccount:vk-provider:vk-provider"
PROVIDER_GROUPS = ("system:serviceaccounts", "system:serviceaccounts:vk-provider", "system:authenticated")
NODE = "nodeless"
MESH_NODE = "nodeless-2"
"""The Node that manifests/istio/app.yaml names for what is not in the mesh."""
API_PORT = 6443
REGISTRY_PORT = 5000
KUBELET_PORT = 10250
HEALTHZ_PORT = 10248
MOTO_PORT = 5566
E2E_IMAGES = tuple(
    reference
    for entry in select_entries("e2e")
    for reference in entry.references[:1]
    if entry.recipe in ("agnhost", "busybox", "nginx")
)
"""Preloaded, as a node has them after the first pods: the specs do not measure pulling."""
MESH_IMAGES = tuple(
    entry.references[0]
    for entry in select_entries("mesh")
    if entry.recipe in ("sample-busybox", "agnhost", "istio-proxyv2")
)
"""Preloaded for the same reason: all that runs beside and in the mesh."""


@dataclass(frozen=True)
class Environment:
    """One demo cluster: everything it keeps is below `root`, within the user's cache.

    name:    of the local cloud (part of interface and cgroup names)
    cloud:   local, simulated, or aws: a moto server whose instances boot (tests.demo.aws)
    subnet:  of the instances; `address` is the host's own in it
    ipv6_subnet: of the instances, and the cluster is dual-stack; "" for IPv4 alone
    healthz_port: of the provider on 127.0.0.1, which clusters side by side must not share
    more_nodes:   names (nodeless-...) of further Nodes of the same provider
    shared_host_paths, capacity: of every Node; no capacity for the provider's own
    containerd: which one the instances run, see tests.cluster.containerd2
    agent_monitor_grace_s: of the provider's configuration
    resolver: whether this machine resolves names for the instances; else they have its own nameservers
    dns: whether CoreDNS runs on nodeless instances (containers must run: cloud local)
    mesh: with Istio's images in the registry
    moto_port: of the moto server on 127.0.0.1
    own_registry: the registry's images are below `root` and go with it, rather than in the user's cache
    pool: how many instances are ready before a pod asks
    kubelet_node, kubelet_network: name of a real kubelet's Node beside ours, "" for none, and its network (a /23)
    """

    root: Path
    name: str = "demo"
    cloud: str = "local"
    subnet: str = "10.201.0.0/16"
    address: str = "10.201.0.1"
    taint: bool = True
    daemonsets: str = "refuse"
    preload_images: tuple[str, ...] = ("busybox:latest",)
    healthz_port: int = HEALTHZ_PORT
    more_nodes: tuple[str, ...] = ()
    shared_host_paths: tuple[str, ...] = ()
    capacity: tuple[tuple[str, str], ...] = ()
    containerd: str = containerd2.DISTRIBUTION
    agent_monitor_grace_s: float = 40.0
    mesh: bool = False
    own_registry: bool = False
    pool: int = 0
    kubelet_node: str = ""
    kubelet_network: str = ""
    resolver: bool = False
    dns: bool = False
    ipv6_subnet: str = ""
    moto_port: int = MOTO_PORT

    @property
    def runs_containers(self) -> bool:
        return self.cloud != "simulated"

    @property
    def ipv6_address(self) -> str:
        """The host's own in `ipv6_subnet`, "" without one."""
        return host_address(self.ipv6_subnet) if self.ipv6_subnet else ""

    @property
    def lock(self) -> Path:
        """Of whoever brings it up or takes it down (tests.cluster.cache.only_one)."""
        return self.root.with_name(f"{self.root.name}.lock")

    @property
    def cluster_state(self) -> Path:
        return self.root / "cluster"

    @property
    def registry_state(self) -> Path:
        return self.root / "registry"

    @property
    def registry(self) -> str:
        return f"{self.address}:{REGISTRY_PORT}"

    @property
    def cloud_state(self) -> Path:
        return self.root / "cloud"

    @property
    def cloud_device(self) -> str:
        """This machine's interface to the instances."""
        return LocalCloudConfig(name=self.name, subnet=self.subnet).host_device

    @property
    def kubelet_state(self) -> Path:
        return self.root / "kubelet"

    @property
    def config_file(self) -> Path:
        return self.root / "provider.toml"

    @property
    def provider(self) -> Process:
        return Process("provider", self.root, self.root)

    @property
    def marker(self) -> Path:
        """Says how this cluster was brought up; `demo-down` and `demo-kubeconfig` read it."""
        return self.root / "demo.json"

    @property
    def preload(self) -> tuple[str, ...]:
        images = (*self.preload_images, *((COREDNS,) if self.dns else ()))
        return tuple(f"{self.registry}/{image}" for image in images)

    def provider_environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(PROJECT), "PATH": containerd2.search_path(self.containerd)}

    def save(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        partial = self.marker.with_suffix(".new")
        partial.write_text(json.dumps({name: value for name, value in asdict(self).items() if name != "root"}))
        partial.replace(self.marker)

    @classmethod
    def load(cls, root: Path) -> Environment | None:
        """The environment that was brought up under `root`, None when there is none."""
        try:
            document = json.loads((root / "demo.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(document, dict):
            return None
        known = {each.name for each in fields(cls)}  # another version of this file may have written others
        # JSON knows no tuples.
        return cls(
            root,
            **{key: _tuples(item) for key, item in document.items() if key in known},
        )

    def provider_config(self, kubeconfig: Path, client_ca: Path, cloud: str = "") -> str:
        """The provider's TOML. cloud: the table of a cloud other than those that run without further parts."""
        preload = ", ".join(f'"{image}"' for image in self.preload)
        nameservers = f'"{self.address}"' if self.resolver else ""
        return f"""# Written by the demo for the code {code_version()}; `vk-provider run --config` takes it.
[cluster]
kubeconfig = "{kubeconfig}"
dns = ["{CLUSTER_DNS}"]

{"".join(self._node_config(index, name) for index, name in enumerate((NODE, *self.more_nodes)))}
[kubelet]
client_ca_file = "{client_ca}"
certificate_dir = "{self.root / "pki"}"
healthz_port = {self.healthz_port}

[identity]
directory = "{self.root / "identity"}"

[pods]
archive_dir = "{self.root / "logs"}"
daemonsets = {json.dumps(self.daemonsets)}

[ledger]
file = "{self.root / "ledger.sqlite3"}"

[cloud]
backend = "{self.cloud}"
owner = "{self.name}"
agent_monitor_grace_s = {self.agent_monitor_grace_s}

[cloud.local]
name = "{self.name}"
subnet = "{self.subnet}"
ipv6_subnet = "{self.ipv6_subnet}"
state_dir = "{self.cloud_state}"
preload = [{preload}]
nameservers = [{nameservers}]

{cloud}
[[registries]]
host = "{self.registry}"
plain_http = true
{self._pool()}"""

    def _pool(self) -> str:
        """Its instances cost nothing here, so pods of all sizes up to theirs take them."""
        if not self.pool:
            return ""
        return f"""
[[pools]]
name = "spare"
node = "{NODE}"
cpu = "1"
memory = "1Gi"
count = {self.pool}
price_factor = 1000.0
"""

    def _node_config(self, index: int, name: str) -> str:
        return f"""[[nodes]]
name = "{name}"
address = "{self.address}"
ipv6_address = "{self.ipv6_address}"
port = {KUBELET_PORT + index}
zone = "{"local-a" if self.cloud != "aws" else "eu-central-1a"}"
region = "{"local" if self.cloud != "aws" else "eu-central-1"}"
architecture = "{machine_architecture()}"
taint = {str(self.taint).lower()}
labels = {{ type = "virtual-kubelet" }}
shared_host_paths = {json.dumps(self.shared_host_paths)}
{self._capacity()}
"""

    def _capacity(self) -> str:
        amounts = ", ".join(f'{json.dumps(name)} = "{amount}"' for name, amount in self.capacity)
        return f"capacity = {{ {amounts} }}\n" if amounts else ""


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def mesh_environment(root: Path, name: str, subnet: str, address: str, healthz_port: int = HEALTHZ_PORT) -> Environment:
    """A cluster for Istio. Its Nodes have no taint: the pods of Istio and of its Gateways tolerate none."""
    return Environment(
        root,
        name,
        subnet=subnet,
        address=address,
        taint=False,
        preload_images=MESH_IMAGES,
        healthz_port=healthz_port,
        more_nodes=(MESH_NODE,),
        mesh=True,
        resolver=True,
        dns=True,
    )


def code_version() -> str:
    """Changes with the provider's code: a provider that runs older code is started anew."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "vk_provider").rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def default_root() -> Path:
    return cache_dir() / "demo"
