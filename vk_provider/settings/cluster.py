"""Tables about the cluster and its registries."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.settingtypes import PositiveInt


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The API server, and what the pods of the cluster expect.

    kubeconfig: path; "" means in-cluster configuration, else $KUBECONFIG or ~/.kube/config
    context:    of the kubeconfig; "" takes its current one
    domain:     the cluster's DNS domain
    dns:        addresses of the cluster's DNS servers, for pods with dnsPolicy ClusterFirst
    request_connections: to the API server at once, for requests; watches, Leases and reviews have their own
    """

    kubeconfig: str = ""
    context: str = ""
    domain: str = "cluster.local"
    dns: tuple[str, ...] = ()
    request_connections: PositiveInt = 64


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A registry host for containerd on the instances.

    host:       host[:port], as image names begin
    server:     URL, "" derives it from the host
    plain_http: whether it speaks HTTP without TLS
    """

    host: str
    server: str = ""
    plain_http: bool = False
