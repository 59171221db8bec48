"""The pod's cgroup as files, of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from vk_provider.agent.worker.sandbox.cgroups import (
    bounded_config,
    read_pod_config,
    read_pod_memory_usage,
    write_pod_config,
)
from vk_provider.podmodel.podresources import ResourceConfig

PARENT = "/kubepods/podu1"


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for controller in ("cpu", "memory", "pids"):
        (tmp_path / controller).mkdir()
    return tmp_path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    pod = tmp_path / "kubepods" / "podu1"
    pod.mkdir(parents=True)
    for name, text in {"cpu.weight": "100", "cpu.max": "max 100000", "memory.max": "max"}.items():
        (pod / name).write_text(text)
    return tmp_path


def test_limits_of_version_1_are_read_as_they_were_written(v1: Path) -> None:
    config = ResourceConfig(512, 50_000, 100_000, 64 << 20)
    assert read_pod_config(PARENT, v1) is None
    assert write_pod_config(PARENT, config, v1) == []
    assert read_pod_config(PARENT, v1) == config
    assert (v1 / "cpu/kubepods/podu1/cpu.cfs_quota_us").read_text() == "50000"


def test_limits_of_version_2_are_read_as_they_were_written_but_for_the_coarse_weight(v2: Path) -> None:
    assert write_pod_config(PARENT, ResourceConfig(1024, 50_000, 100_000, 64 << 20), v2) == []
    assert read_pod_config(PARENT, v2) == ResourceConfig(998, 50_000, 100_000, 64 << 20)
    assert (v2 / "kubepods/podu1/cpu.max").read_text() == "50000 100000"


def test_no_limit_is_none_in_both_versions(v1: Path) -> None:
    write_pod_config(PARENT, ResourceConfig(2, 1, 100_000, 1), v1)
    (v1 / "cpu/kubepods/podu1/cpu.cfs_quota_us").write_text("-1\n")
    (v1 / "memory/kubepods/podu1/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert read_pod_config(PARENT, v1) == ResourceConfig(2)


def test_no_limit_is_max_in_version_2(v2: Path) -> None:
    assert read_pod_config(PARENT, v2) == ResourceConfig(2597)


def test_what_is_none_stays_as_it_is(v2: Path) -> None:
    write_pod_config(PARENT, ResourceConfig(cpu_quota=50_000), v2)
    write_pod_config(PARENT, ResourceConfig(memory=1 << 20), v2)
    assert read_pod_config(PARENT, v2) == ResourceConfig(2597, 50_000, 100_000, 1 << 20)


def test_a_limit_that_the_kernel_refuses_is_named(v1: Path) -> None:
    (v1 / "memory/kubepods/podu1/memory.limit_in_bytes").mkdir(parents=True)  # cannot be written, whatever the user is
    (error,) = write_pod_config(PARENT, ResourceConfig(memory=5), v1)
    assert error == 'failed to write "5" to memory.limit_in_bytes of the pod: is a directory'


def test_a_quota_is_not_wider_than_that_of_the_instance(v1: Path) -> None:
    (v1 / "cpu/cpu.cfs_quota_us").write_text("200000")
    (v1 / "cpu/cpu.cfs_period_us").write_text("100000")
    assert bounded_config(ResourceConfig(2, 300_000), v1) == ResourceConfig(2, 200_000)
    assert bounded_config(ResourceConfig(2, 100_000), v1) == ResourceConfig(2, 100_000)
    assert bounded_config(ResourceConfig(2), v1) == ResourceConfig(2)


def test_what_the_pod_uses_is_read_in_both_versions(v1: Path) -> None:
    assert read_pod_memory_usage(PARENT, v1) is None
    write_pod_config(PARENT, ResourceConfig(memory=1), v1)
    (v1 / "memory/kubepods/podu1/memory.usage_in_bytes").write_text("4096\n")
    assert read_pod_memory_usage(PARENT, v1) == 4096


def test_what_the_pod_uses_in_version_2(v2: Path) -> None:
    (v2 / "kubepods/podu1/memory.current").write_text("8192\n")
    assert read_pod_memory_usage(PARENT, v2) == 8192
