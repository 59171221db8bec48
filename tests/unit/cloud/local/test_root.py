"""What an instance sees of the machine: software, a layer of its own, and no IDs of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vk_provider.cloud.local import (
    layer,
    software,
    userns,
)
from vk_provider.errors import BadStartError


def test_needed_paths_are_bound_unless_the_distributions_directory_shows_them(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    shown, hidden = ("/usr",), ("/usr/share",)
    needed = [str(tmp_path), str(inner), "/usr/bin", "/usr/share/doc", str(tmp_path / "missing")]
    assert software.find_binds(needed, shown, hidden) == ("/usr", str(tmp_path), "/usr/share/doc")


@pytest.mark.parametrize("path", ["/", "/etc", "/root", "/home", "/var/lib"])
def test_a_path_that_would_show_more_than_software_is_a_bad_start(path: str) -> None:
    with pytest.raises(BadStartError, match="more than the software"):
        software.find_binds([path], ("/usr",), ())


def test_of_pythons_environment_only_libraries_and_the_interpreter_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/home/me/project/.venv")
    monkeypatch.setattr(sys, "executable", "/home/me/project/.venv/bin/python")
    monkeypatch.setattr(sys, "base_prefix", "/root/.pyenv/versions/3.11.7")
    assert set(software.python_paths()) == {
        "/home/me/project/.venv/bin/python",
        "/home/me/project/.venv/pyvenv.cfg",
        "/home/me/project/.venv/lib",
        "/home/me/project/.venv/lib64",
        "/root/.pyenv/versions/3.11.7/lib",
        "/root/.pyenv/versions/3.11.7/lib64",
        str(Path(software.__file__).parent.parent.parent),
    }


def test_every_link_on_the_way_to_a_needed_path_is_bound(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    (versions / "3.11.7" / "bin").mkdir(parents=True)
    python = versions / "3.11.7" / "bin" / "python3"
    python.touch()
    (versions / "3.11").symlink_to("3.11.7")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    executable = tmp_path / "venv" / "bin" / "python"
    executable.symlink_to(versions / "3.11" / "bin" / "python3")
    found = software.find_binds([str(tmp_path / "venv"), str(executable)], (), ())
    # The venv, the name that its link has, and the file behind it.
    assert set(found) == {str(tmp_path / "venv"), str(versions / "3.11" / "bin" / "python3"), str(python)}


def make_host(root: Path) -> None:
    """A machine's file system with secrets where people keep them."""
    for name in (
        "etc/shadow",
        "etc/ssl/private/key.pem",
        "etc/kubernetes/admin.conf",
        "etc/vk-provider/kubeconfig",
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/id_ed25519",
        "home/me/.kube/config",
        "opt/app/token",
        "srv/data",
        "var/lib/etcd/member/snap/db",
        "boot/key",
        "secrets/key",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("SECRET")
    (root / "etc/ssl/certs").mkdir()
    (root / "etc/ssl/certs/ca-certificates.crt").write_text("CA")
    (root / "etc/ssl/certs/own.pem").write_text("SECRET")
    (root / "etc/ssl/certs/own.pem").chmod(0o640)
    (root / "etc/nsswitch.conf").write_text("hosts: files dns")
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "bin").symlink_to("usr/bin")


def test_the_layer_has_what_programs_need_of_etc_and_nothing_else_of_the_machine(tmp_path: Path) -> None:
    make_host(tmp_path / "host")
    made = layer.ensure_layer(tmp_path, "config", "nameserver 1.2.3.4\n", tmp_path / "host")
    files = {str(path.relative_to(made)): path for path in made.rglob("*") if path.is_file() and not path.is_symlink()}
    assert set(files) == {
        "etc/containerd/config.toml",
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        "etc/resolv.conf",
        "etc/ssl/certs/ca-certificates.crt",
    }
    assert not [name for name, path in files.items() if "SECRET" in path.read_text()]
    assert os.readlink(made / "etc/localtime") == "/usr/share/zoneinfo/Etc/UTC"
    assert os.readlink(made / "bin") == "usr/bin"
    for name in ("root", "home", "opt", "srv", "var/lib/kubelet"):
        assert list((made / name).iterdir()) == []


def test_a_layer_is_named_by_its_content_and_made_once(tmp_path: Path) -> None:
    make_host(tmp_path / "host")
    first = layer.ensure_layer(tmp_path, "config", "nameserver 1.2.3.4\n", tmp_path / "host")
    assert (first / "etc/containerd/config.toml").read_text() == "config"
    assert (first / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert layer.ensure_layer(tmp_path, "config", "nameserver 1.2.3.4\n", tmp_path / "host") == first
    assert layer.ensure_layer(tmp_path, "other", "nameserver 1.2.3.4\n", tmp_path / "host") != first
    (tmp_path / "host/etc/nsswitch.conf").write_text("hosts: dns")
    assert layer.ensure_layer(tmp_path, "config", "nameserver 1.2.3.4\n", tmp_path / "host") != first


def test_an_instances_ids_are_nobodys_on_the_machine_and_reach_every_id_that_a_pod_may_ask_for() -> None:
    lines = [tuple(map(int, line.split())) for line in userns.build_map(7).splitlines()]
    inside = sorted((start, start + count) for start, _, count in lines)
    assert inside == [(0, 65536), (65536, 2**31)]
    hosts = sorted((host, host + count) for _, host, count in lines)
    assert hosts[0][0] == userns.host_id(7) > 2**30 and hosts[0][1] <= hosts[1][0] and hosts[1][1] <= 2**32 - 1
    assert userns.host_id(8) - userns.host_id(7) == 65536
