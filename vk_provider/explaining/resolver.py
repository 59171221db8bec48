"""Which DNS a pod asks, by its dnsPolicy and dnsConfig (podmodel.dns writes its resolv.conf)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.address import Family, family_of
from vk_provider.settings import ClusterSettings


class Resolver(NamedTuple):
    """server:  of the cluster's DNS, "" when the pod does not ask it or the provider is not told of one
    why_not: the pod's policy, for which it asks others; "" when it asks the cluster's
    is_own:  the servers are those of its dnsConfig, which may be the cluster's nevertheless
    """

    server: str
    why_not: str = ""
    is_own: bool = False


def find_resolver(pod: Json, cluster: ClusterSettings, families: Collection[Family]) -> Resolver:
    """families: of the pod's addresses."""
    if not cluster.dns:
        return Resolver("")
    spec = pod.get("spec") or {}
    policy, host_network = spec.get("dnsPolicy") or "ClusterFirst", bool(spec.get("hostNetwork"))
    if policy in ("None", "Default") or (policy == "ClusterFirst" and host_network):
        why = f"dnsPolicy {policy}" + (" with hostNetwork" if policy == "ClusterFirst" else "")
        return Resolver("", why, bool((spec.get("dnsConfig") or {}).get("nameservers")))
    return Resolver(next((server for server in cluster.dns if family_of(server) in families), ""))
