"""The table of the kubelet API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vk_provider.settingtypes import PositiveFloat, TcpPort

KUBELET_SERVING = "kubernetes.io/kubelet-serving"
CLUSTER_CA = "cluster"
"""kubelet.client_ca_file: the CAs that the API server accepts."""


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """The HTTPS API.

    serving_certificate: "csr" asks the cluster for certificates of serving_signer and rotates them;
                         "files" reads certificate_file and key_file and follows their changes
    serving_signer:      signerName of those requests; on EKS "beta.eks.amazonaws.com/app-serving"
    certificate_file:    PEM, the Node's certificate first; with "files"
    key_file:            PEM, its key; with "files"
    client_ca_file:      CAs of the accepted client certificates: "cluster" for those that the API server accepts
                         (ConfigMap kube-system/extension-apiserver-authentication, read again every minute), the path
                         of a bundle in PEM, whose changes are followed, or "" for none: bearer tokens only
    certificate_dir:     where certificates of "csr" are kept over a restart
    streaming_idle_timeout_s: after which a stream of exec, attach or port-forward without a byte is closed
    healthz_address:     where /healthz is served in plain HTTP, for the provider itself
    healthz_port:        its port; 0 takes any
    status_page:         whether the provider's page for people is served there at /, without credentials: "loopback"
                         where healthz_address is one, "on" for everybody who reaches the address, "off"
    """

    serving_certificate: Literal["csr", "files"] = "csr"
    serving_signer: str = KUBELET_SERVING
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = CLUSTER_CA
    certificate_dir: str = "/var/lib/vk-provider/pki"
    streaming_idle_timeout_s: PositiveFloat = 14400.0
    healthz_address: str = "127.0.0.1"
    healthz_port: TcpPort = 10248
    status_page: Literal["loopback", "on", "off"] = "loopback"
