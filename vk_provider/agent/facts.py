"""Facts about the agent's instance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """Identity and addresses of this instance, from the metadata endpoint.

    primary_ip is the agent's and the hostNetwork pods' address, pod_ip the secondary one that belongs to the pod;
    primary_ipv6 and pod_ipv6 are "" on an instance without IPv6.
    """

    instance_id: str
    primary_ip: str
    pod_ip: str
    instance_type: str
    zone: str
    hostname: str
    primary_ipv6: str = ""
    pod_ipv6: str = ""

    @property
    def host_ips(self) -> tuple[str, ...]:
        """IPv4 first, the primary family."""
        return (self.primary_ip, self.primary_ipv6) if self.primary_ipv6 else (self.primary_ip,)

    @property
    def pod_ips(self) -> tuple[str, ...]:
        """IPv4 first."""
        return (self.pod_ip, self.pod_ipv6) if self.pod_ipv6 else (self.pod_ip,)
