"""The containerd of instances: version, configuration, pause image, registries."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path

import pytest

from vk_provider.cloud.base import InstanceRuntime
from vk_provider.cloud.local import (
    containerd,
    services,
)
from vk_provider.cloud.local.golden import read_image_name, write_hosts
from vk_provider.cloud.local.pause import PAUSE_IMAGE, build_pause_program, write_pause_archive
from vk_provider.errors import BadStartError


def test_containerd_versions_and_capabilities_are_read() -> None:
    assert containerd.parse_version("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1") == (1, 6, 20)
    assert containerd.parse_version("containerd github.com/containerd/containerd/v2 v2.4.2 abc") == (2, 4, 2)
    with pytest.raises(BadStartError):
        containerd.parse_version("nonsense")


def test_containerd_is_used_with_the_shim_and_runc_that_path_finds_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for directory, names in ((new, ("containerd", "ctr", containerd.SHIM)), (old, ("containerd", "ctr", "runc"))):
        directory.mkdir()
        for name in names:
            (directory / name).write_text("#!/bin/sh\necho containerd v2.4.2\n")
            (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{new}:{tmp_path}/none:{old}")
    found = containerd.find_containerd()
    assert (found.path, found.runc_path, found.version) == (f"{new}/containerd", f"{old}/runc", (2, 4, 2))
    assert found.directories == (str(new), str(old))
    assert services.build_environment(found.directories)["PATH"].startswith(f"{new}:{old}:/usr/local/sbin:")
    (new / containerd.SHIM).unlink()
    with pytest.raises(BadStartError, match="containerd-shim-runc-v2 is not on PATH"):
        containerd.find_containerd()


RRO = '{"mountOptions": ["rbind", "rro"]}'


@pytest.mark.parametrize(
    ("version", "runc", "kernel", "expected"),
    [
        ((1, 6, 20), RRO, "6.18.44", InstanceRuntime("containerd", "1.6.20")),
        ((2, 0, 5), RRO, "6.1.0-28-amd64", InstanceRuntime("containerd", "2.0.5", ("", "runc"), False, True, True)),
        ((2, 4, 2), RRO, "6.1.0-28-amd64", InstanceRuntime("containerd", "2.4.2", ("", "runc"), True, True, True)),
        ((2, 4, 2), RRO, "5.10.0", InstanceRuntime("containerd", "2.4.2", ("", "runc"), True, False, True)),
        ((2, 4, 2), "", "6.1.0", InstanceRuntime("containerd", "2.4.2", ("", "runc"), True, False, True)),
    ],
)
def test_what_the_runtime_can_do_follows_from_versions_and_runc(
    version: tuple[int, int, int], runc: str, kernel: str, expected: InstanceRuntime
) -> None:
    assert containerd.describe_runtime(version, runc, kernel) == expected


@pytest.mark.parametrize(("version", "number"), [((1, 6), 2), ((2, 1), 3)])
def test_containerds_configuration_is_toml_with_our_choices(version: tuple[int, int], number: int) -> None:
    import tomllib

    text = containerd.build_config(version, "p:1", "/cni")
    found = tomllib.loads(text)
    assert found["version"] == number and found["root"] == "/var/lib/containerd"
    plugins = found["plugins"]
    cri = plugins["io.containerd.grpc.v1.cri"]
    runtime = cri if number == 2 else plugins["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is True and runtime["disable_apparmor"] is True
    assert cri["stream_server_address"] == "127.0.0.1"
    assert runtime["cni"]["conf_dir"] == "/etc/cni/net.d"
    assert "p:1" in text and "/etc/containerd/certs.d" in text


def test_the_pause_image_is_a_static_program_in_an_oci_archive(tmp_path: Path) -> None:
    program = build_pause_program()
    assert program[:4] == b"\x7fELF"
    entry = struct.unpack_from("<Q", program, 24)[0]
    assert program[entry - 0x400000 :].startswith(b"\xb8\x0d\x00\x00\x00")
    path = tmp_path / "pause.tar"
    write_pause_archive(path)
    assert read_image_name(path) == PAUSE_IMAGE
    with tarfile.open(path) as archive:
        index = json.load(archive.extractfile("index.json") or io.BytesIO())
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        assert f"blobs/sha256/{digest}" in archive.getnames()
    with pytest.raises(BadStartError, match="arm64"):
        build_pause_program("arm64")


def test_registry_hosts_are_written_for_containerd(tmp_path: Path) -> None:
    write_hosts(tmp_path / "h", {"r:5000": {"plain_http": True}, "q": {"server": "https://m"}})
    assert 'server = "http://r:5000"' in (tmp_path / "h/r:5000/hosts.toml").read_text()
    assert '[host."https://m"]' in (tmp_path / "h/q/hosts.toml").read_text()
