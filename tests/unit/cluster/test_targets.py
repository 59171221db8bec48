"""What is built, and when it is built again."""

import dataclasses
import fcntl
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import TextIO

import pytest

from tests.cluster import build, cache
from tests.cluster.errors import ClusterError
from tests.cluster.targets import KUBERNETES_MODULE, Target, kubernetes_version, required_version, targets


def test_every_staging_module_is_replaced_by_the_release_published_with_kubernetes() -> None:
    staging = kubernetes_version().replace("v1.", "v0.", 1)
    replaced = [line.split() for line in (KUBERNETES_MODULE / "go.mod").read_text().splitlines() if "=>" in line]
    assert len(replaced) == 31
    assert all(words[0] == words[2] and words[3] == staging for words in replaced)


def test_the_version_is_stamped_into_the_control_plane_and_the_specs() -> None:
    for name in ("controlplane", "e2e"):
        command = " ".join(targets()[name].command(Path("out")))
        assert f"k8s.io/component-base/version.gitVersion={kubernetes_version()}" in command


def test_containerd_is_built_with_its_version_and_without_snapshotters_that_need_cgo() -> None:
    for name, file in (("containerd", "containerd"), ("shim-runc-v2", "containerd-shim-runc-v2"), ("ctr", "ctr")):
        target = targets()[name]
        command = target.command(Path("out"))
        version = required_version(target.module, "github.com/containerd/containerd/v2")
        assert target.file == file and version.startswith("v2.")
        assert f"-X github.com/containerd/containerd/v2/version.Version={version}" in " ".join(command)
        assert "no_btrfs" in command[command.index("-tags") + 1]


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


class Finished:
    """Stands for the compiler: writes the binary at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.staged: list[str] = []
        monkeypatch.setattr(build, "_check_go", lambda target: None)
        monkeypatch.setattr(build, "_count_packages", lambda target, out: 1)
        monkeypatch.setattr(build, "_compile", self._compile)

    def _compile(self, target: Target, output: Path, count: int, out: TextIO) -> None:
        self.staged = sorted(path.name for path in output.parent.parent.glob(".*"))
        output.write_text("binary")


def test_a_new_build_removes_older_ones_that_nobody_uses_and_what_killed_ones_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = Finished(monkeypatch)
    bin_directory = tmp_path / "vk-provider/bin"
    keys = {"old": "0" * 16, "recent": "1" * 16, "running": "2" * 16}
    for name, key in keys.items():
        (bin_directory / f"ginkgo-{key}").mkdir(parents=True)
        if name != "recent":
            os.utime(bin_directory / f"ginkgo-{key}", (1, 1))
    (bin_directory / ".ginkgo-killed").mkdir()
    (bin_directory / ("kwok-" + "0" * 16)).mkdir()
    os.utime(bin_directory / ("kwok-" + "0" * 16), (1, 1))
    program = bin_directory / f"ginkgo-{keys['running']}" / "ginkgo"
    shutil.copy("/bin/sleep", program)
    os.utime(program.parent, (1, 1))
    with subprocess.Popen([program, "60"]) as process:
        path = build.ensure("ginkgo", io.StringIO())
        process.kill()
    assert path.read_text() == "binary"
    left = sorted(entry.name for entry in bin_directory.iterdir() if entry.is_dir())
    kept = [f"ginkgo-{keys['recent']}", f"ginkgo-{keys['running']}", path.parent.name, "kwok-" + "0" * 16]
    assert left == sorted(kept)
    assert ".ginkgo-killed" not in compiler.staged


def test_a_build_that_is_used_counts_as_used_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = build.built_path("ginkgo")
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path.parent, (1, 1))
    build.ensure("ginkgo")
    assert path.parent.stat().st_mtime > 1


def test_a_build_that_fails_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Finished(monkeypatch)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_compile", interrupt)
    assert build.main(["ginkgo"]) == 130
    assert [path.name for path in (tmp_path / "vk-provider/bin").iterdir()] == ["ginkgo.lock"]


def test_packages_are_counted_without_the_modules_that_are_fetched_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'go: downloading example.org/m v1.0.0' >&2\necho fmt\necho example.org/m\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    out = io.StringIO()
    assert build._count_packages(targets()["ginkgo"], out) == 2
    assert "fetching Go modules for ginkgo: 2 packages" in out.getvalue()


def test_two_builds_at_once_wait_for_each_other_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    holder = (tmp_path / "lock").open("a")
    fcntl.flock(holder, fcntl.LOCK_EX)
    monkeypatch.setattr(cache.time, "sleep", lambda _: holder.close())  # the other one ends meanwhile
    with cache.file_lock(tmp_path / "lock", "another build is running, waiting for it", out):
        assert out.getvalue() == "another build is running, waiting for it: 0 s\n"
