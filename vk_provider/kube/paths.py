"""Paths of the API resources in use, and their parsing into verb, group and resource. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

PODS = "/api/v1/pods"
NODES = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"
NETWORK_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
SERVICES = "/api/v1/services"
SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
RUNTIME_CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
CLUSTER_TRUST_BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
CERTIFICATE_SIGNING_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
SUBJECT_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
NODE_LEASE_NAMESPACE = "kube-node-lease"

_CORE = "/api/v1"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def namespaced_path(resource: str, namespace: str, name: str = "", sub: str = "", api: str = _CORE) -> str:
    """Path of a namespaced collection, object or subresource; `api` is its prefix, such as /apis/apps/v1."""
    return _join(f"{api}/namespaces/{namespace}/{resource}", name, sub)


def pod_path(namespace: str, name: str = "", sub: str = "") -> str:
    return namespaced_path("pods", namespace, name, sub)


def event_path(namespace: str, name: str = "") -> str:
    return namespaced_path("events", namespace, name)


def node_path(name: str, sub: str = "") -> str:
    return _join(NODES, name, sub)


def lease_path(name: str = "", namespace: str = NODE_LEASE_NAMESPACE) -> str:
    return namespaced_path("leases", namespace, name, api="/apis/coordination.k8s.io/v1")


def token_request_path(namespace: str, service_account: str) -> str:
    return namespaced_path("serviceaccounts", namespace, service_account, "token")


def csr_path(name: str = "", sub: str = "") -> str:
    return _join(CERTIFICATE_SIGNING_REQUESTS, name, sub)


def pod_certificate_request_path(namespace: str, name: str = "") -> str:
    return namespaced_path("podcertificaterequests", namespace, name, api="/apis/certificates.k8s.io/v1")


def field_selector(**fields: str) -> dict[str, str]:
    """Query with a fieldSelector; `__` in a keyword stands for the dot: metadata__name="x"."""
    return {"fieldSelector": ",".join(f"{key.replace('__', '.')}={value}" for key, value in fields.items())}


def _join(collection: str, name: str, sub: str) -> str:
    path = f"{collection}/{name}" if name else collection
    return f"{path}/{sub}" if sub else path


class RequestInfo(msgspec.Struct, frozen=True, gc=False):
    """A request as the API server's authorizer sees it. For other URLs `resource` is the path and `group` None.

    A Struct, because every request makes one.
    """

    verb: str
    group: str | None
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def label(self) -> str:
        """resource[.group][/subresource], such as `leases.coordination.k8s.io` or `pods/status`."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{resource}/{self.subresource}" if self.subresource else resource


def parse_request(method: str, path: str, query: Mapping[str, str] | None = None) -> RequestInfo:
    """Parse method, path and query as the API server does (apiserver pkg/endpoints/request/requestinfo.go)."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return RequestInfo(method.lower(), None, path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    return RequestInfo(_verb(method, name, query or {}), group, resource, namespace, name, subresource)


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in ("GET", "HEAD"):
        if query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return _VERBS.get(method, method.lower())
