"""Where a control plane's binaries are taken from."""

from pathlib import Path

import pytest

from tests.cluster import binaries, build
from tests.cluster.binaries import NEEDED, find_binaries


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The binary our own build would give; PATH has nothing of use."""
    path = tmp_path / "built" / "controlplane"
    monkeypatch.setattr(build, "ensure", lambda name, out=None: path)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return path


def install(directory: Path, names: tuple[str, ...], version: str) -> Path:
    directory.mkdir()
    for name in names:
        (directory / name).write_text(f"#!/bin/sh\necho 'Kubernetes {version}'\n")
        (directory / name).chmod(0o755)
    return directory


def test_complete_and_new_assets_are_used(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = install(tmp_path / "assets", NEEDED, "v1.37.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = find_binaries()
    assert (found.source, found.version, found["kubectl"]) == ("KUBEBUILDER_ASSETS", "v1.37.0", assets / "kubectl")


def test_binaries_on_path_are_used(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin', NEEDED, 'v1.38.1')}:/bin")
    assert find_binaries().source == "PATH"


@pytest.mark.parametrize(
    ("names", "version"),
    [(("etcd", "kube-apiserver", "kubectl"), "v1.37.0"), (NEEDED, "v1.20.2"), (NEEDED, "unknown")],
    ids=["incomplete", "too old", "no version"],
)
def test_what_is_incomplete_or_too_old_is_built_instead(
    names: tuple[str, ...], version: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(install(tmp_path / "assets", names, version)))
    found = find_binaries()
    assert found.source == "built"
    assert found["etcd"] == built.parent / "etcd"
    assert found.version == build.targets()["controlplane"].stamps[0].split("=")[1]


def test_a_mix_of_versions_is_not_used(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = install(tmp_path / "assets", NEEDED, "v1.37.0")
    (assets / "kubectl").write_text("#!/bin/sh\necho 'Client Version: v1.32.4'\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert find_binaries().source == "built"
    assert binaries.OLDEST_MINOR <= 37
