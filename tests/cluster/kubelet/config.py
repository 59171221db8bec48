"""What the machine of a real kubelet is configured with: texts and argument lists. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vk_provider.cloud.local.containerd import ADDRESS, CERTS_DIR, CNI_CONF_DIR

KERNEL_TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet sets for the whole machine (container_manager_linux.go setupKernelTunables). It finds these values in
files that are mounted over the kernel's, so that the machine keeps its own."""

CONFIG_DIR = "/etc/kubelet"
POD_BRIDGE = "cni0"
DISKS = {"containerd": "/var/lib/containerd", "kubelet": "/var/lib/kubelet", "log": "/var/log"}
"""Directory of the state directory -> where it is mounted: overlayfs cannot nest on overlayfs."""
MAX_PODS = 110
LABELS = {"topology.kubernetes.io/region": "local", "topology.kubernetes.io/zone": "local-a"}
"""As our Node in the demo's configuration: admission copies them to the Node's pods."""
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One real kubelet's machine.

    name:      of the Node
    network:   IPv4 network of at least a /23: its first half links this machine with the node, its second is the pods'
    registry:  host:port of the plain HTTP registry; images: references that are pulled before the node registers
    directory: state directory on this machine; programs: paths of kubelet, kube-proxy, containerd and ctr
    """

    name: str
    network: str
    registry: str
    images: tuple[str, ...]
    dns: str
    directory: str
    hierarchies: tuple[tuple[str, str, bool], ...]
    programs: dict[str, str]
    containerd_version: tuple[int, int, int]

    @property
    def path(self) -> Path:
        """The state directory."""
        return Path(self.directory)

    @property
    def link(self) -> ipaddress.IPv4Network:
        """The network of the link between this machine and the node."""
        return next(ipaddress.IPv4Network(self.network).subnets(1))

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """The network of the pods."""
        return list(ipaddress.IPv4Network(self.network).subnets(1))[1]

    @property
    def host_address(self) -> str:
        """This machine's address on the link."""
        return str(self.link.network_address + 1)

    @property
    def address(self) -> str:
        """The node's address."""
        return str(self.link.network_address + 2)

    def to_text(self) -> str:
        """JSON for the first process of the node."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> NodeConfig:
        """The reverse of `to_text`."""
        known: dict[str, Any] = json.loads(text)
        known["images"] = tuple(known["images"])
        known["hierarchies"] = tuple((path, options, unified) for path, options, unified in known["hierarchies"])
        known["containerd_version"] = tuple(known["containerd_version"])
        return cls(**known)


def kubelet_configuration(config: NodeConfig) -> dict[str, Any]:
    """KubeletConfiguration: defaults, but for what a machine that is shared with other work cannot promise."""
    nothing = dict.fromkeys(
        ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"), "0%"
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{CONFIG_DIR}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{CONFIG_DIR}/server.crt",
        "tlsPrivateKeyFile": f"{CONFIG_DIR}/server.key",
        "containerRuntimeEndpoint": f"unix://{ADDRESS}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # lower ones need CAP_SYS_RESOURCE
        "enforceNodeAllocatable": [],
        "evictionHard": nothing,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "clusterDomain": "cluster.local",
        "clusterDNS": [config.dns],
        "maxPods": MAX_PODS,
        "registerWithTaints": [],
    }


def cni_configuration(config: NodeConfig) -> dict[str, Any]:
    """A bridge of the node's own, with host ports. The cluster's network is flat: nothing is masqueraded."""
    ranges = [[{"subnet": str(config.pods)}]]
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": True,
                "ipMasq": False,  # pods see each other's addresses, wherever they are
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def hosts_toml(registry: str) -> str:
    """How containerd reaches a registry without TLS."""
    return f'server = "http://{registry}"\n[host."http://{registry}"]\n  capabilities = ["pull", "resolve"]\n'


def files(config: NodeConfig, containerd_config: str, kubeconfigs: dict[str, str]) -> dict[str, str]:
    """Path in the node -> text; the certificates are copied beside them."""
    return {
        "/etc/containerd/config.toml": containerd_config,
        f"{CERTS_DIR}/{config.registry}/hosts.toml": hosts_toml(config.registry),
        f"{CNI_CONF_DIR}/10-pods.conflist": json.dumps(cni_configuration(config)),
        f"{CONFIG_DIR}/kubelet.json": json.dumps(kubelet_configuration(config)),
        "/etc/hostname": f"{config.name}\n",
        "/etc/hosts": f"{HOSTS}{config.address} {config.name}\n",
        **{f"{CONFIG_DIR}/{name}.kubeconfig": text for name, text in kubeconfigs.items()},
    }


def kubelet_arguments(config: NodeConfig) -> list[str]:
    """kubelet's command line."""
    return [
        config.programs["kubelet"],
        f"--config={CONFIG_DIR}/kubelet.json",
        f"--kubeconfig={CONFIG_DIR}/kubelet.kubeconfig",
        f"--hostname-override={config.name}",
        f"--node-ip={config.address}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in LABELS.items())}",
        "--v=2",
    ]


def proxy_arguments(config: NodeConfig) -> list[str]:
    """kube-proxy's command line; the limits of conntrack cannot be written in a network namespace."""
    return [
        config.programs["kube-proxy"],
        f"--kubeconfig={CONFIG_DIR}/kube-proxy.kubeconfig",
        f"--hostname-override={config.name}",
        "--proxy-mode=iptables",
        "--detect-local-mode=BridgeInterface",
        f"--pod-bridge-interface={POD_BRIDGE}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    ]


def host_batch(config: NodeConfig, device: str, namespace: str) -> str:
    """`ip -batch` input for this machine: one cable to the node, and the way to its pods."""
    return (
        f"link add {device} type veth peer name eth0 netns {namespace}\n"
        f"addr add {config.host_address}/{config.link.prefixlen} dev {device}\n"
        f"link set {device} up\n"
        f"route add {config.pods} via {config.address} dev {device}\n"
    )


def forwarding_table(name: str, devices: Sequence[str]) -> str:
    """`nft -f` input for this machine: what comes in by one of `devices` leaves by one of them or not at all.

    The machine is the router between the instances and the node, and only that: forwarding is on for these devices, and
    neither other clusters nor what is outside are reached.
    """
    ours = ", ".join(f'"{device}"' for device in devices)
    return (
        f"table ip {name} {{\n"
        "  chain forward {\n"
        "    type filter hook forward priority filter; policy accept;\n"
        f"    iifname {{ {ours} }} oifname != {{ {ours} }} drop\n"
        "  }\n"
        "}\n"
    )


def node_batch(config: NodeConfig) -> str:
    """`ip -batch` input for the node's network namespace."""
    return (
        "link set lo up\n"
        f"addr add {config.address}/{config.link.prefixlen} dev eth0\n"
        "link set eth0 up\n"
        f"route add default via {config.host_address} dev eth0\n"
    )
