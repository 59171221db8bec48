"""The pod's host name and domain.

Source: "DNS for Services and Pods", KEP-1797 setHostnameAsFQDN, KEP-4762 hostnameOverride.
"""

from __future__ import annotations

import re

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidHostnameError
from vk_provider.podmodel.spec import name_of, namespace_of, spec_of

MAX_HOSTNAME_LENGTH = 63
MAX_KERNEL_HOSTNAME_LENGTH = 64
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


def build_hostname(pod: Json, cluster_domain: str) -> tuple[str, str]:
    """Return (host name, domain); domain is "" without a subdomain, else `sub.ns.svc.cluster.local`."""
    spec = spec_of(pod)
    override = spec.get("hostnameOverride")
    if override is not None:
        if len(override) > 253 or not all(_LABEL.match(label) for label in override.split(".")):
            raise InvalidHostnameError(f'pod HostnameOverride "{override}" is not a valid DNS subdomain')
        return _truncate(pod, override), ""
    own = spec.get("hostname") or ""
    if own and not _is_label(own):
        raise InvalidHostnameError(f'pod Hostname "{own}" is not a valid DNS label')
    hostname = _truncate(pod, own or name_of(pod))
    subdomain = spec.get("subdomain") or ""
    if subdomain and not _is_label(subdomain):
        raise InvalidHostnameError(f'pod Subdomain "{subdomain}" is not a valid DNS label')
    return hostname, f"{subdomain}.{namespace_of(pod)}.svc.{cluster_domain}" if subdomain else ""


def build_kernel_hostname(pod: Json, cluster_domain: str) -> str:
    """Return the sandbox's host name: the short one, or the FQDN with setHostnameAsFQDN (at most 64 characters)."""
    hostname, domain = build_hostname(pod, cluster_domain)
    if not domain or not spec_of(pod).get("setHostnameAsFQDN"):
        return hostname
    fqdn = f"{hostname}.{domain}"
    if len(fqdn) > MAX_KERNEL_HOSTNAME_LENGTH:
        raise InvalidHostnameError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long "
            f"({MAX_KERNEL_HOSTNAME_LENGTH} characters is the max, {len(fqdn)} characters requested)"
        )
    return fqdn


def _is_label(text: str) -> bool:
    return len(text) <= MAX_HOSTNAME_LENGTH and bool(_LABEL.match(text))


def _truncate(pod: Json, hostname: str) -> str:
    if len(hostname) <= MAX_HOSTNAME_LENGTH:
        return hostname
    truncated = hostname[:MAX_HOSTNAME_LENGTH].rstrip("-.")
    if not truncated:
        raise InvalidHostnameError(f'hostname for pod "{name_of(pod)}" was invalid: "{hostname}"')
    return truncated
