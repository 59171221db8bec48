"""The kubelet APIs of the provider's Nodes: what they show of the settings, and what their servers share."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vk_provider import __version__
from vk_provider.errors import BadStartError
from vk_provider.foundation import Foundation
from vk_provider.kube.client import KubeClient
from vk_provider.kube.client_ca import ClusterClientCa
from vk_provider.kubelet.access.auth import Authenticator, AuthFilter, Authorizer
from vk_provider.kubelet.access.client_ca import ClientCaFile
from vk_provider.kubelet.api import ComponentInfo, KubeletApi
from vk_provider.kubelet.provider import BillSource, ClientCaSource, Explainer, PodSource
from vk_provider.kubelet.server import KubeletServer, ServerConfig
from vk_provider.node.spec import KUBELET_VERSION, NodeSpec
from vk_provider.settings import CLUSTER_CA, Settings


@dataclass(frozen=True, slots=True)
class Answers:
    """Of the questions that a kubelet is not asked."""

    explainer: Explainer
    bills: BillSource


class KubeletServers:
    """Builds the server of each Node; all share the caches of reviews.

    answers:       for `vk-provider net`, `instances` and `cost`
    is_healthy:    for /healthz
    client_ca_pem: signers of client certificates; "" for none
    """

    def __init__(
        self,
        base: Foundation,
        pods: PodSource,
        answers: Answers,
        is_healthy: Callable[[], bool],
        client_ca_pem: str,
    ) -> None:
        self._base, self._pods, self._answers = base, pods, answers
        self._is_healthy, self._client_ca_pem = is_healthy, client_ca_pem
        self._authenticator, self._authorizer = Authenticator(base.clients.reviews), Authorizer(base.clients.reviews)
        self._started_at = time.time()

    def build(self, spec: NodeSpec) -> KubeletServer:
        """The server, not started. Raises BadStartError when the client CAs cannot be used."""
        base, settings = self._base, self._base.settings
        component = ComponentInfo(
            configuration=build_configuration(settings),
            flags={"node-name": spec.name, "cloud": settings.cloud.backend},
            version=f"{KUBELET_VERSION}+vk{__version__}",
            started_at=self._started_at,
            is_healthy=self._is_healthy,
        )
        api = KubeletApi(
            spec.name,
            self._pods,
            base.connector,
            base.registry,
            settings.kubelet.streaming_idle_timeout_s,
            component,
            self._answers.explainer,
            self._answers.bills,
        )
        config = ServerConfig(spec.internal_ip, spec.kubelet_port, client_ca_pem=self._client_ca_pem)
        try:
            return KubeletServer(config, api, AuthFilter(self._authenticator, self._authorizer, spec.name))
        except ssl.SSLError as error:
            raise BadStartError(f"the CA for client certificates of the kubelet API cannot be used: {error}") from None


def find_client_ca(path: str, client: KubeClient) -> ClientCaSource | None:
    """Where the CAs of the accepted client certificates come from; None for nowhere. path: KubeletSettings."""
    if not path:
        return None
    return ClusterClientCa(client) if path == CLUSTER_CA else ClientCaFile(Path(path))


def build_configuration(settings: Settings) -> dict[str, Any]:
    """The content of /configz: the KubeletConfiguration fields that apply here."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDomain": settings.cluster.domain,
        "clusterDNS": list(settings.cluster.dns),
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {}},
        "authorization": {"mode": "Webhook"},
        "enableServer": True,
        "enableDebuggingHandlers": True,
        "enableSystemLogHandler": False,
        "streamingConnectionIdleTimeout": f"{settings.kubelet.streaming_idle_timeout_s:.0f}s",
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "maxPods": 0,
        "cgroupDriver": "cgroupfs",
        "serializeImagePulls": False,
        "featureGates": {},
    }
