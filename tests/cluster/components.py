"""The command line of each component of the control plane."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.pki import Authority, service_account_key
from tests.cluster.state import CLUSTER_DOMAIN, KUBERNETES_SERVICE_IP, Endpoints, StateDir

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

# Bursts of 1,000 pods shall be limited by the API server's work, not by a client's or a server's limiter.
CLIENT_QPS, CLIENT_BURST = 2000, 4000


@dataclass(frozen=True, slots=True)
class Credentials:
    """Every certificate the components need, issued from one CA in the state directory."""

    ca: Authority
    front_proxy_ca: Authority
    server: tuple[Path, Path]
    controllers: tuple[Path, Path]
    kubelet_client: tuple[Path, Path]
    front_proxy: tuple[Path, Path]
    service_account: tuple[Path, Path]


def issue_credentials(state: StateDir, endpoints: Endpoints) -> Credentials:
    """Issue what is missing, keep what still fits."""
    ca, front = Authority(state.pki, "ca"), Authority(state.pki, "front-proxy-ca")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{CLUSTER_DOMAIN}", "localhost", "127.0.0.1", KUBERNETES_SERVICE_IP]
    return Credentials(
        ca=ca,
        front_proxy_ca=front,
        server=ca.issue_server("apiserver", "kube-apiserver", [*names, endpoints.address]),
        controllers=ca.issue_server("controllers", "controllers", ["localhost", "127.0.0.1"]),
        kubelet_client=ca.issue_client("apiserver-kubelet-client", KUBELET_CLIENT),
        front_proxy=front.issue_client("front-proxy-client", "front-proxy-client"),
        service_account=service_account_key(state.pki),
    )


def arguments(name: str, state: StateDir, endpoints: Endpoints, credentials: Credentials) -> list[str]:
    """The flags of the component `name`."""
    match name:
        case "etcd":
            return _etcd(state)
        case "kube-apiserver":
            return _apiserver(state, endpoints, credentials)
        case "kube-controller-manager":
            return _controller_manager(state, endpoints, credentials)
        case "kube-scheduler":
            return _scheduler(state, endpoints, credentials)
    raise ValueError(name)


def _etcd(state: StateDir) -> list[str]:
    url = f"unix://{state.etcd_socket}"
    return [
        f"--data-dir={state.etcd_data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        # Data outlives a killed process, not a killed machine: enough for a cluster that is thrown away.
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def _apiserver(state: StateDir, endpoints: Endpoints, credentials: Credentials) -> list[str]:
    public, private = credentials.service_account
    flags = [
        f"--etcd-servers=unix://{state.etcd_socket}",
        f"--bind-address={endpoints.bind}",
        f"--advertise-address={endpoints.address}",
        f"--secure-port={endpoints.port}",
        *_tls(credentials.server),
        f"--client-ca-file={credentials.ca.certificate_path}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={endpoints.service_cidrs}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        f"--kubelet-certificate-authority={credentials.ca.certificate_path}",
        f"--kubelet-client-certificate={credentials.kubelet_client[0]}",
        f"--kubelet-client-key={credentials.kubelet_client[1]}",
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        # Nothing on this host translates Service addresses, so aggregated APIs and webhooks are dialled by endpoint.
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={credentials.front_proxy_ca.certificate_path}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={credentials.front_proxy[0]}",
        f"--proxy-client-key-file={credentials.front_proxy[1]}",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1500",
        "--profiling=false",
    ]
    if ipaddress.ip_address(endpoints.address).is_loopback:
        # The kubernetes Service cannot have a loopback endpoint; without this each attempt is an error in the log.
        flags.append("--endpoint-reconciler-type=none")
    return flags


def _controller_manager(state: StateDir, endpoints: Endpoints, credentials: Credentials) -> list[str]:
    return [
        *_controller(state, "kube-controller-manager", endpoints.controller_manager_port, credentials),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={credentials.service_account[1]}",
        f"--root-ca-file={credentials.ca.certificate_path}",
        f"--cluster-signing-cert-file={credentials.ca.certificate_path}",
        f"--cluster-signing-key-file={credentials.ca.key_path}",
        f"--service-cluster-ip-range={endpoints.service_cidrs}",
        "--allocate-node-cidrs=false",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-job-syncs=20",
        "--concurrent-gc-syncs=50",
        # A demonstration and a test do not have a quarter of a minute for each look, nor a second sample of a new pod.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
    ]


def _scheduler(state: StateDir, endpoints: Endpoints, credentials: Credentials) -> list[str]:
    return _controller(state, "kube-scheduler", endpoints.scheduler_port, credentials)


def _controller(state: StateDir, name: str, port: int, credentials: Credentials) -> list[str]:
    """What the controller manager and the scheduler have in common."""
    kubeconfig = state.kubeconfig(name)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        *_tls(credentials.controllers),
        "--leader-elect=false",
        f"--kube-api-qps={CLIENT_QPS}",
        f"--kube-api-burst={CLIENT_BURST}",
        "--profiling=false",
    ]


def _tls(pair: tuple[Path, Path]) -> list[str]:
    return [f"--tls-cert-file={pair[0]}", f"--tls-private-key-file={pair[1]}"]
