"""What is built, and when it is built again."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.targets import KUBERNETES_MODULE, kubernetes_version, required_version, targets


def test_every_staging_module_is_replaced_by_the_release_published_with_kubernetes() -> None:
    staging = kubernetes_version().replace("v1.", "v0.", 1)
    replaced = [line.split() for line in (KUBERNETES_MODULE / "go.mod").read_text().splitlines() if "=>" in line]
    assert len(replaced) == 31
    assert all(words[0] == words[2] and words[3] == staging for words in replaced)


def test_the_version_is_stamped_into_the_control_plane_and_the_specs() -> None:
    for name in ("controlplane", "e2e"):
        command = " ".join(targets()[name].command(Path("out")))
        assert f"k8s.io/component-base/version.gitVersion={kubernetes_version()}" in command


def test_an_unknown_module_has_no_version() -> None:
    with pytest.raises(ValueError, match="does not require"):
        required_version(KUBERNETES_MODULE, "example.org/none")


def test_a_changed_source_version_or_flag_is_another_binary(tmp_path: Path) -> None:
    module = tmp_path / "src"
    shutil.copytree(KUBERNETES_MODULE, module)
    target = dataclasses.replace(targets()["controlplane"], module=module)
    key = target.key()
    assert key == targets()["controlplane"].key()
    assert dataclasses.replace(target, stamps=()).key() != key
    (module / "controlplane" / "main.go").write_text("package main")
    changed = target.key()
    assert changed != key
    (module / "go.sum").write_text("")
    assert target.key() != changed


def test_a_binary_in_the_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    path = build.built_path("ginkgo")
    assert path.is_relative_to(tmp_path / "vk-provider" / "bin")
    path.parent.mkdir(parents=True)
    path.touch()
    assert build.ensure("ginkgo") == path


def test_without_go_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClusterError, match=r"next:.*go\.dev/dl"):
        build.ensure("ginkgo")
    assert build.main(["ginkgo"]) == 3
    assert "no go on PATH" in capsys.readouterr().err
    assert not list((tmp_path / "vk-provider" / "bin").glob("ginkgo-*"))


def test_a_go_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'go.mod requires go >= 1.26.0 (running go 1.19.8)' >&2; exit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(ClusterError, match=r"asks for go 1\.26.*(?s:.*)next:.*GOTOOLCHAIN=auto"):
        build.ensure("controlplane")
