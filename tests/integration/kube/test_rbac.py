"""The manifest allows exactly what is called."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.cluster.controlplane import ControlPlane
from tests.integration.kube.conftest import BASE, Provider

ELSEWHERE = {
    ("get", "pods"),
    ("list", "pods"),
    ("watch", "pods"),
    ("delete", "pods"),
    ("patch", "pods/status"),
    ("create", "secrets"),
    ("get", "secrets"),
    ("update", "secrets"),
    ("create", "tokenreviews.authentication.k8s.io"),
    ("create", "subjectaccessreviews.authorization.k8s.io"),
}
"""Calls of the rooms pods and kubelet, and of the identity store in its own namespace."""


def allowed_calls() -> set[tuple[str, str]]:
    """(verb, resource[.group][/subresource]) of all rules in manifests/base."""
    allowed = set()
    for name in ("clusterrole.yaml", "lease-role.yaml", "identity-role.yaml", "client-ca-role.yaml"):
        for document in yaml.safe_load_all((BASE / name).read_text()):
            for rule in document.get("rules") or []:
                allowed |= {
                    (verb, _label(group, resource))
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    return allowed


def _label(group: str, resource: str) -> str:
    name, _, sub = resource.partition("/")
    full = f"{name}.{group}" if group else name
    return f"{full}/{sub}" if sub else full


def check_allowed(provider: Provider) -> None:
    """Every call so far is in the manifest, and none was refused."""
    calls = {call for call in provider.calls if not call[1].startswith("/")}
    assert calls - allowed_calls() == set()
    assert provider.forbidden == set()


def test_the_manifest_has_no_wildcards() -> None:
    assert not [call for call in allowed_calls() if "*" in call[0] + call[1]]


def test_every_rule_is_used_by_a_room() -> None:
    from vk_provider.kube import paths
    from vk_provider.kube.client_ca import CONFIG_MAP

    here = {
        ("create", "nodes"),
        ("get", "nodes"),
        ("list", "nodes"),
        ("watch", "nodes"),
        ("patch", "nodes"),
        ("patch", "nodes/status"),
        ("create", "events"),
        ("patch", "events"),
        ("get", "leases.coordination.k8s.io"),
        ("create", "leases.coordination.k8s.io"),
        ("update", "leases.coordination.k8s.io"),
        ("create", paths.parse_request("POST", paths.token_request_path("n", "s")).label),
        ("get", "serviceaccounts"),
        ("get", paths.parse_request("GET", CONFIG_MAP).label),
        ("create", paths.parse_request("POST", paths.csr_path()).label),
        ("create", paths.parse_request("POST", paths.pod_certificate_request_path("n")).label),
    }
    followed = (
        "/api/v1/configmaps",
        "/api/v1/secrets",
        paths.SERVICES,
        paths.ENDPOINT_SLICES,
        paths.SERVICE_CIDRS,
        paths.NETWORK_POLICIES,
        paths.NAMESPACES,
        paths.RUNTIME_CLASSES,
        paths.CLUSTER_TRUST_BUNDLES,
        paths.csr_path(),
        paths.pod_certificate_request_path("n"),
    )
    for path in followed:
        label = paths.parse_request("GET", path).label
        here |= {("list", label), ("watch", label)}
    assert allowed_calls() == here | ELSEWHERE


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("patch", "pods/status", True),
        ("update", "pods", False),
        ("create", "pods", False),
        ("get", "secrets", False),
        ("delete", "nodes", False),
        ("update", "leases", False),
    ],
)
def test_the_api_server_agrees_on_what_the_account_may_do(
    control_plane: ControlPlane, provider_kubeconfig: object, verb: str, resource: str, allowed: bool
) -> None:
    account = "--as=system:serviceaccount:vk-provider:vk-provider"
    kind, _, sub = resource.partition("/")
    asking = ("auth", "can-i", verb, kind, f"--subresource={sub}", account, "-n", "default")
    answer = control_plane.kubectl(*asking, check=False)
    assert answer.stdout.strip() == ("yes" if allowed else "no")


def test_the_whole_base_is_accepted_by_the_api_server(control_plane: ControlPlane, provider_kubeconfig: object) -> None:
    applied = control_plane.kubectl("apply", "-k", str(BASE), "--dry-run=server", "-o", "json")
    kinds: list[Any] = [item["kind"] for item in json.loads(applied.stdout)["items"]]
    assert sorted(kinds) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
        "Namespace",
        "Role",
        "Role",
        "Role",
        "RoleBinding",
        "RoleBinding",
        "RoleBinding",
        "ServiceAccount",
    ]


def test_the_configuration_in_the_manifest_is_valid(tmp_path: Any) -> None:
    from vk_provider.settings import load_settings

    document = yaml.safe_load((BASE / "configmap.yaml").read_text())
    path = tmp_path / "config.toml"
    path.write_text(document["data"]["config.toml"])
    assert load_settings(path, {}).nodes[0].name == "vk-provider-0"
