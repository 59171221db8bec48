"""The addresses of a pod and of its host, as a PodStatus and the downward API show them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import is_host_network


def build_addresses(pod: Json, sandbox_ips: tuple[str, ...], host_ips: tuple[str, ...], previous: Json) -> Json:
    """Return hostIP(s) and podIP(s) of the status; the pod's stay what they were in `previous` after the sandbox is
    gone."""
    found: Json = {}
    if host_ips:
        found["hostIP"] = host_ips[0]
        found["hostIPs"] = [{"ip": ip} for ip in host_ips[:2]]
    if is_host_network(pod):
        pod_ips = tuple(host_ips[:2])
    else:
        pod_ips = sort_pod_ips(sandbox_ips, host_ips)
    pod_ips = pod_ips or tuple(entry["ip"] for entry in previous.get("podIPs") or [])
    if pod_ips:
        found["podIP"] = pod_ips[0]
        found["podIPs"] = [{"ip": ip} for ip in pod_ips]
    return found


def sort_pod_ips(pod_ips: tuple[str, ...] | list[str], host_ips: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return at most one address a family, the family of the node's first address in front."""
    primary = _parse(host_ips[0])[0] if host_ips else 4
    parsed = [_parse(ip) for ip in pod_ips]
    chosen: list[str] = []
    for family in (primary, 10 - primary):
        first = next((text for version, text in parsed if version == family), None)
        if first is not None:
            chosen.append(first)
    return tuple(chosen)


def _parse(ip: str) -> tuple[int, str]:
    """Version and canonical text. Raises ValueError for no address."""
    if ":" in ip:
        return 6, _canonical_ipv6(ip)
    ipaddress.IPv4Address(ip)  # takes the canonical text alone
    return 4, ip


@lru_cache(maxsize=1024)
def _canonical_ipv6(ip: str) -> str:
    return str(ipaddress.IPv6Address(ip))
