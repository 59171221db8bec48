"""The /etc/hosts file that every container of the pod shares.

Source: "Adding entries to Pod /etc/hosts with HostAliases".
"""

from __future__ import annotations

from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.hostname import build_hostname
from vk_provider.podmodel.spec import is_host_network, spec_of

_HEADER = "# Kubernetes-managed hosts file.\n"
_HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("fe00::0", "ip6-mcastprefix"),
    ("fe00::1", "ip6-allnodes"),
    ("fe00::2", "ip6-allrouters"),
)


def build_hosts_file(pod: Json, context: PodContext, node_hosts: str) -> str:
    """Return the file's text; `node_hosts` is the instance's own /etc/hosts, used by hostNetwork pods."""
    aliases = _build_aliases(pod)
    if is_host_network(pod):
        return _HOST_NETWORK_HEADER + node_hosts + aliases
    hostname, domain = build_hostname(pod, context.node["clusterDomain"])
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = [f"{address}\t{name}\n" for address, name in _LOCAL]
    lines += [f"{address}\t{names}\n" for address in context.pod_ips]
    return _HEADER + "".join(lines) + aliases


def _build_aliases(pod: Json) -> str:
    aliases = spec_of(pod).get("hostAliases") or []
    if not aliases:
        return ""
    lines = ["\t".join((alias["ip"], *(alias.get("hostnames") or []))) + "\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)
