"""The manifests and the README speak of settings that exist and fit each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from vk_provider.settings import ENVIRONMENT_PREFIX, Settings, find_backend, load_settings

PROJECT = Path(__file__).parents[2]
BASE = PROJECT / "manifests" / "base"
EKS = PROJECT / "manifests" / "eks"
README = (PROJECT / "README.md").read_text()


def read(name: str) -> Any:
    return yaml.safe_load((BASE / name).read_text())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(read("configmap.yaml")["data"]["config.toml"])
    return load_settings(path, {})


@pytest.fixture
def pod() -> Any:
    return read("deployment.yaml")["spec"]["template"]["spec"]


def test_the_kustomization_names_every_file() -> None:
    there = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(read("kustomization.yaml")["resources"]) == there


def test_one_provider_at_a_time() -> None:
    spec = read("deployment.yaml")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["replicas"] <= 1


def test_the_provider_keeps_off_its_own_node(settings: Settings, pod: Any) -> None:
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (rule,) = terms[0]["matchExpressions"]
    assert rule["operator"] == "NotIn"
    assert settings.nodes[0].labels[rule["key"]] in rule["values"]


def test_a_pod_without_privileges_runs_a_backend_that_needs_none(settings: Settings, pod: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert settings.cloud.backend == "simulated"


def test_what_is_written_is_on_a_volume_and_what_must_survive_in_a_secret(settings: Settings, pod: Any) -> None:
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert "/tmp" in mounts
    for path in (settings.kubelet.certificate_dir, settings.pods.archive_dir, settings.ledger.file):
        assert any(path.startswith(mount + "/") for mount in mounts), path
    namespace, _, name = settings.identity.secret.partition("/")
    role = next(iter(yaml.safe_load_all((BASE / "identity-role.yaml").read_text())))
    assert role["metadata"]["namespace"] == namespace
    assert role["rules"][1]["resourceNames"] == [name]


def test_ports_and_probes_are_those_of_the_settings(settings: Settings, pod: Any) -> None:
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"kubelet": settings.nodes[0].port, "healthz": settings.kubelet.healthz_port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "healthz"


def test_variables_of_the_container_override_settings(pod: Any, tmp_path: Path) -> None:
    (container,) = pod["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert all(name.startswith(ENVIRONMENT_PREFIX) for name in environment)
    path = tmp_path / "config.toml"
    path.write_text('[[nodes]]\nname = "n"\n')
    assert load_settings(path, environment).kubelet.healthz_address == "0.0.0.0"


def test_the_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert load_settings(path, {}).nodes[0].name == tomllib.loads(text)["nodes"][0]["name"]


def test_the_overlay_in_the_readme_changes_the_deployment() -> None:
    overlays = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    overlay = next(each for each in overlays if "resources" in each)
    deployment = read("deployment.yaml")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert overlay["images"][0]["name"] == image.partition(":")[0]
    assert overlay["replicas"] == [{"name": deployment["metadata"]["name"], "count": 1}]


def test_the_overlay_for_eks_changes_what_is_in_the_base(tmp_path: Path) -> None:
    overlay = yaml.safe_load((EKS / "kustomization.yaml").read_text())
    assert [(EKS / each).resolve() for each in overlay["resources"]] == [BASE]
    deployment = read("deployment.yaml")
    assert [each["name"] for each in overlay["replicas"]] == [deployment["metadata"]["name"]]
    image, _, _ = deployment["spec"]["template"]["spec"]["containers"][0]["image"].partition(":")
    assert [each["name"] for each in overlay["images"]] == [image]
    assert all((EKS / each["path"]).is_file() for each in overlay["patches"])


def test_the_settings_for_eks_are_valid_and_fit_the_base(tmp_path: Path, pod: Any) -> None:
    patch, base = yaml.safe_load((EKS / "config.yaml").read_text()), read("configmap.yaml")
    assert patch["metadata"] == {key: base["metadata"][key] for key in ("name", "namespace")}
    assert patch["data"].keys() == base["data"].keys()
    path = tmp_path / "config.toml"
    path.write_text(patch["data"]["config.toml"])
    settings = load_settings(path, {})
    assert settings.cloud.backend == "aws" and settings.kubelet.serving_signer == "beta.eks.amazonaws.com/app-serving"
    _, own = find_backend(settings.cloud)
    assert own.eks_cluster and own.ecr_credentials
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert settings.nodes[0].labels["type"] in terms[0]["matchExpressions"][0]["values"]
