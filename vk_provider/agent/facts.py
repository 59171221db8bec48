"""Facts about the agent's instance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """Identity and addresses of this instance, from the metadata endpoint.

    primary_ip is the agent's and the hostNetwork pods' address, pod_ip the secondary one that belongs to the pod.
    """

    instance_id: str
    primary_ip: str
    pod_ip: str
    instance_type: str
    zone: str
    hostname: str
