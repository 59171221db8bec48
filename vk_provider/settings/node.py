"""Tables of the Nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vk_provider.settingtypes import TcpPort


@dataclass(frozen=True, slots=True)
class TaintSettings:
    """A taint of the Node.

    key:    label key
    value:  label value, may be empty
    effect: on pods that do not tolerate it
    """

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


DEFAULT_TAINTS = (TaintSettings("virtual-kubelet.io/provider", "vk-provider"),)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One Node object to register.

    name:     of the Node; its label kubernetes.io/hostname, too
    zone:     the Node's label topology.kubernetes.io/zone; its pods are launched there, if the cloud has that zone
    region:   the Node's label topology.kubernetes.io/region
    architecture: the Node's label kubernetes.io/arch, and that of its pods' instances unless a pod asks for another
    labels:   more labels of the Node
    address:  the Node's InternalIP, on which the kubelet API listens; "" takes the cloud's or the default route's
    ipv6_address: a second InternalIP beside an IPv4 `address`, where node ports and host ports are reached, too; the
              pods of dual-stack Services need none
    port:     of the kubelet API
    taint:    false registers the Node without `taints`
    capacity: quantities of the whole Node, the limit of the requests of all its pods
    shared_host_paths: directories (below /data, /mnt, /srv, /tmp or /var/tmp) that the hostPath volumes of all pods of
              this Node share, as on the disk of one machine: who may use a hostPath below them reads, changes and
              deletes what others left there. Only on clouds that can (`local`)
    services_here: whether Services are translated in the network namespace of the provider: node ports at the Node's
              address, ClusterIPs for the processes of the machine. "auto": where the address is one of this machine's
              and nft works, unless the cloud has no machines. Node ports at the instances need nothing of this
    """

    name: str
    zone: str = ""
    region: str = ""
    architecture: Literal["amd64", "arm64"] = "amd64"
    address: str = ""
    ipv6_address: str = ""
    port: TcpPort = 10250
    taint: bool = True
    taints: tuple[TaintSettings, ...] = DEFAULT_TAINTS
    services_here: Literal["auto", "on", "off"] = "auto"
    labels: Mapping[str, str] = field(default_factory=dict)
    shared_host_paths: tuple[str, ...] = ()
    capacity: Mapping[str, str] = field(
        default_factory=lambda: {"cpu": "1000", "memory": "4Ti", "pods": "5000", "ephemeral-storage": "20Ti"}
    )
