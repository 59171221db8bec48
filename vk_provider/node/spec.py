"""The configuration of one Node. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vk_provider import __version__

PROVIDER_TAINT_KEY = "virtual-kubelet.io/provider"
KUBELET_VERSION = "v1.37.2"
"""Version of the kubelet whose behaviour is implemented; clients derive features from it."""


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def to_api(self) -> dict[str, str]:
        document = {"key": self.key, "value": self.value, "effect": self.effect}
        return {name: text for name, text in document.items() if text}


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One Node.

    internal_ip:   address that the API server dials for :kubelet_port (not loopback, not link-local)
    second_ip:     the Node's address of the other family, "" for none
    capacity:      quantities by resource, all of it allocatable; cpu, memory, pods and ephemeral-storage are required
    labels:        added to the default ones, which they override
    taints:        set when the Node is created; PROVIDER_TAINT_KEY also follows later changes of the configuration
    declared_features: names for status.declaredFeatures; only what the agents implement
    """

    name: str
    internal_ip: str
    capacity: dict[str, str]
    zone: str = ""
    region: str = ""
    architecture: str = "amd64"
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    kubelet_port: int = 10250
    provider_id: str = ""
    kubelet_version: str = f"{KUBELET_VERSION}+vk{__version__}"
    container_runtime_version: str = "containerd://unknown"
    os_image: str = "vk-provider"
    kernel_version: str = "unknown"
    declared_features: tuple[str, ...] = ()
    runtime_handlers: tuple[dict[str, Any], ...] = ()
    supplemental_groups_policy: bool = False
    second_ip: str = ""

    @property
    def internal_ips(self) -> tuple[str, ...]:
        """The primary family's first."""
        return (self.internal_ip, self.second_ip) if self.second_ip else (self.internal_ip,)
