"""Which sysctls a pod may set: the safe list, and which namespace each lives in.

Source: kubelet sysctl allowlist ("Using sysctls in a Kubernetes Cluster").
"""

from __future__ import annotations

from vk_provider.jsontypes import Json
from vk_provider.podmodel.security import normalize_sysctl
from vk_provider.podmodel.spec import spec_of

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def find_forbidden_sysctl(pod: Json, allowed_unsafe: tuple[str, ...] = ()) -> str | None:
    """Return the kubelet's text about the first sysctl that is refused, or None.

    allowed_unsafe: names or prefixes ending in `*` that the operator allows besides the safe ones
    """
    spec = spec_of(pod)
    for entry in (spec.get("securityContext") or {}).get("sysctls") or []:
        name = normalize_sysctl(entry["name"])
        if name not in SAFE_SYSCTLS and not any(_allows(pattern, name) for pattern in allowed_unsafe):
            return f'forbidden sysctl: "{name}" not allowlisted'
        if name.startswith("net.") and spec.get("hostNetwork"):
            return f'forbidden sysctl: "{name}" not allowed with host Net enabled'
        if not name.startswith("net.") and spec.get("hostIPC"):
            return f'forbidden sysctl: "{name}" not allowed with host IPC enabled'
    return None


def _allows(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
