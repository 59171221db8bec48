"""The pod's resolv.conf: nameservers, search domains and options.

Source: "DNS for Services and Pods"; pkg/kubelet/network/dns/dns.go; limits of glibc as the kubelet applies them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import ResolvConfError
from vk_provider.podmodel.spec import describe_pod, is_host_network, namespace_of, spec_of
from vk_provider.wire.session import NodeFacts

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
_MAX_DOMAIN_LENGTH = 253


@dataclass(frozen=True)
class DnsConfig:
    """What CRI's DNSConfig takes. warnings: (event reason, message) about what was cut off."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    warnings: tuple[tuple[EventReason, str], ...] = ()


def parse_resolv_conf(text: str) -> DnsConfig:
    """Read nameservers (they add up), search (the last line counts) and options (a later one replaces) of a file.

    Raises ResolvConfError for a nameserver without an address, as a kubelet refuses the whole file.
    """
    nameservers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.split("\n"):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if fields[0] == "nameserver":
            if len(fields) == 1:
                raise ResolvConfError(
                    "Encountered error while parsing resolv conf file. Error: nameserver list is empty "
                )
            nameservers.append(fields[1])
        elif fields[0] == "search":
            searches = [domain.removesuffix(".") for domain in fields[1:] if domain != "."]
        elif fields[0] == "options":
            options.update({option.partition(":")[0]: option for option in fields[1:]})
    return DnsConfig(tuple(nameservers), tuple(searches), tuple(options.values()))


def build_dns_config(pod: Json, node: NodeFacts, host_resolv_conf: str) -> DnsConfig:
    """Return the pod's DNS settings by dnsPolicy and dnsConfig; `host_resolv_conf` is the instance's file as text.

    Raises ResolvConfError, whatever the policy, when that file is malformed.
    """
    warnings: list[tuple[EventReason, str]] = []
    config = _base(pod, node, parse_resolv_conf(host_resolv_conf), warnings)
    own = spec_of(pod).get("dnsConfig")
    if own is not None:
        config = _append(config, own)
    nameservers = _limit_nameservers(list(config.nameservers), warnings)
    searches = _limit_searches(list(config.searches), warnings)
    return DnsConfig(tuple(nameservers), tuple(searches), config.options, tuple(warnings))


def _append(base: DnsConfig, own: Json) -> DnsConfig:
    """The settings of the policy with the pod's own behind them. Only here duplicates go, as in a kubelet."""
    nameservers = _unique((*base.nameservers, *(own.get("nameservers") or ())))
    searches = _unique((*base.searches, *(own.get("searches") or ())))
    options = {option.partition(":")[0]: option for option in base.options}
    for option in own.get("options") or []:
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return DnsConfig(tuple(nameservers), tuple(searches), tuple(options.values()))


def _base(pod: Json, node: NodeFacts, host: DnsConfig, warnings: list[tuple[EventReason, str]]) -> DnsConfig:
    policy = spec_of(pod).get("dnsPolicy") or "ClusterFirst"
    if policy == "None":
        return DnsConfig()
    if policy == "Default" or (policy == "ClusterFirst" and is_host_network(pod)):
        return host
    if not node["clusterDNS"]:
        text = (
            'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
            'Falling back to "Default" policy.'
        )
        warnings.append((eventreasons.MISSING_CLUSTER_DNS, f'pod: "{describe_pod(pod)}". {text}'))
        return host
    domain = node["clusterDomain"]
    searches = [*host.searches]
    if domain:
        searches = _unique((f"{namespace_of(pod)}.svc.{domain}", f"svc.{domain}", domain, *searches))
    # In the one form in which Go writes an address.
    nameservers = tuple(str(ipaddress.ip_address(address)) for address in node["clusterDNS"])
    return DnsConfig(nameservers, tuple(searches), ("ndots:5",))


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _limit_nameservers(nameservers: list[str], warnings: list[tuple[EventReason, str]]) -> list[str]:
    if len(nameservers) <= MAX_NAMESERVERS:
        return nameservers
    kept = nameservers[:MAX_NAMESERVERS]
    warnings.append(
        (
            eventreasons.DNS_CONFIG_FORMING,
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {' '.join(kept)}",
        )
    )
    return kept


def _limit_searches(searches: list[str], warnings: list[tuple[EventReason, str]]) -> list[str]:
    kept = [domain for domain in searches[:MAX_SEARCHES] if len(domain) <= _MAX_DOMAIN_LENGTH]
    while len(" ".join(kept)) > MAX_SEARCH_CHARACTERS:
        kept.pop()
    if len(kept) != len(searches):
        warnings.append(
            (
                eventreasons.DNS_CONFIG_FORMING,
                "Search Line limits were exceeded, some search paths have been omitted, "
                f"the applied search line is: {' '.join(kept)}",
            )
        )
    return kept
