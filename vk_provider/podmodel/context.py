"""Facts about a pod's instance and Node that its containers can read."""

from __future__ import annotations

from dataclasses import dataclass, field

from vk_provider.wire.session import NodeFacts


def _no_node() -> NodeFacts:
    return NodeFacts(name="", allocatable={}, clusterDNS=[], clusterDomain="cluster.local")


@dataclass(frozen=True)
class PodContext:
    """Facts that are not in the Pod object.

    pod_ips:  addresses of the sandbox, () while there is none (hostNetwork: the host addresses)
    host_ips: addresses of the instance, node family first
    node:     name, allocatable resources, cluster DNS of the Node
    """

    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    node: NodeFacts = field(default_factory=_no_node)
