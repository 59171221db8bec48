"""Tables about the cluster and its registries."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.settingtypes import PositiveInt


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """kubeconfig: path; "" means in-cluster configuration, else $KUBECONFIG or ~/.kube/config."""

    kubeconfig: str = ""
    context: str = ""
    domain: str = "cluster.local"
    dns: tuple[str, ...] = ()
    request_connections: PositiveInt = 64


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A registry host for containerd on the instances. server: URL, "" derives it from the host."""

    host: str
    server: str = ""
    plain_http: bool = False
