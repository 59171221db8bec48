"""Services and EndpointSlices as the API server sends them, defaults filled in; the addresses that tests use."""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json

NODE = "n1"
NODE4, NODE6 = "10.255.0.1", "fd00:255::1"
LOCAL_PODS, LOCAL_PODS6 = "10.1.0.0/17", "fd00:1::/64"
REMOTE_PODS, REMOTE_PODS6 = "10.1.128.0/17", "fd00:2::/64"
OUTSIDE, OUTSIDE6 = "192.168.0.0/16", "fd00:9::/64"
ELSEWHERE = "198.51.100.0/24"
PODS = [f"10.1.0.{n}" for n in (1, 2, 3)] + [f"10.1.128.{n}" for n in (1, 2, 3, 4)] + ["198.51.100.1"]
PODS6 = [f"fd00:1::{n}" for n in (1, 2, 3)] + [f"fd00:2::{n}" for n in (1, 2, 3, 4)]
PORTS = (8080, 8081)
HOST_PORT = 7000
"""Of the hostNetwork pod at the node's own address."""


def make_port(port: int, protocol: str = "TCP", name: str = "", node_port: int = 0) -> Json:
    made: Json = {"name": name, "protocol": protocol, "port": port, "targetPort": port}
    return made | ({"nodePort": node_port} if node_port else {})


def make_service(name: str, *ips: str, ports: list[Json] | None = None, ingress: Any = (), **spec: Any) -> Json:
    families = ["IPv6" if ":" in ip else "IPv4" for ip in ips]
    base: Json = {
        "type": "ClusterIP",
        "clusterIP": ips[0],
        "clusterIPs": list(ips),
        "ipFamilies": families,
        "ipFamilyPolicy": "RequireDualStack" if len(ips) > 1 else "SingleStack",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": ports or [make_port(80)],
    }
    if spec.get("sessionAffinity") == "ClientIP":
        base["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        base["externalTrafficPolicy"] = "Cluster"
    namespace, _, short = name.rpartition("/")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace or "default", "name": short, "uid": f"uid-{name}"},
        "spec": base | spec,
        "status": {"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    }


def make_endpoint(address: str, node: str = NODE, ready: bool = True, **more: Any) -> Json:
    """more: serving, terminating; zones, nodes (hints)."""
    conditions = {"ready": ready, "serving": more.get("serving", ready), "terminating": more.get("terminating", False)}
    made: Json = {"addresses": [address], "conditions": conditions}
    if node:
        made["nodeName"] = node
    hints: Json = {}
    if more.get("zones"):
        hints["forZones"] = [{"name": zone} for zone in more["zones"]]
    if more.get("nodes"):
        hints["forNodes"] = [{"name": name} for name in more["nodes"]]
    return made | ({"hints": hints} if hints else {})


def make_slice(
    service: str, *endpoints: Json, ports: list[Json] | None = None, suffix: str = "x", family: str = "IPv4"
) -> Json:
    namespace, _, short = service.rpartition("/")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace or "default",
            "name": f"{short}-{suffix}",
            "labels": {"kubernetes.io/service-name": short},
        },
        "addressType": family,
        "ports": ports if ports is not None else [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": list(endpoints),
    }
