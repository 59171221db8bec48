"""Paths and how they read back."""

import pytest

from vk_provider.kube import paths


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "label"),
    [
        ("GET", paths.PODS, {"watch": "1"}, "watch", "pods"),
        ("GET", paths.PODS, {}, "list", "pods"),
        ("GET", paths.pod_path("ns", "p"), {}, "get", "pods"),
        ("PATCH", paths.pod_path("ns", "p", "status"), {}, "patch", "pods/status"),
        ("DELETE", paths.pod_path("ns", "p"), {}, "delete", "pods"),
        ("DELETE", paths.pod_path("ns"), {}, "deletecollection", "pods"),
        ("PUT", paths.lease_path("n"), {}, "update", "leases.coordination.k8s.io"),
        ("POST", paths.token_request_path("ns", "sa"), {}, "create", "serviceaccounts/token"),
        ("GET", "/api/v1/namespaces/ns", {}, "get", "namespaces"),
        ("GET", paths.node_path("n"), {}, "get", "nodes"),
        ("PUT", paths.lease_path("n", "other"), {}, "update", "leases.coordination.k8s.io"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", {}, "patch", "deployments.apps/scale"),
        ("GET", "/version", {}, "get", "/version"),
    ],
)
def test_a_request_reads_as_the_authorizer_reads_it(
    method: str, path: str, query: dict[str, str], verb: str, label: str
) -> None:
    info = paths.parse_request(method, path, query)
    assert (info.verb, info.label) == (verb, label)


def test_namespace_and_name_are_told_apart() -> None:
    info = paths.parse_request("GET", paths.pod_path("a", "b", "log"))
    assert (info.namespace, info.name, info.subresource) == ("a", "b", "log")


def test_a_field_selector_joins_dotted_fields() -> None:
    assert paths.field_selector(metadata__name="x", spec__nodeName="n") == {
        "fieldSelector": "metadata.name=x,spec.nodeName=n"
    }
