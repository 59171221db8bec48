"""Control groups of instances, on directories that look like the kernel's."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.cloud.local.records import TEMPLATE
from vk_provider.cloud.local import boot, cgroup
from vk_provider.cloud.local.cgroup import Hierarchy, InstanceCgroup, parse_hierarchies
from vk_provider.cloud.local.init import Init


def unified(root: Path) -> InstanceCgroup:
    """A cgroup v2 hierarchy with the group of one instance."""
    for directory in (root, root / "vk-u", root / "vk-u/i-1"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("cpu memory pids\n")
    (root / "vk-u/i-1/cpu.max").write_text("max 100000\n")
    return InstanceCgroup((Hierarchy(str(root), "", True),), "vk-u/i-1")


def spec_of(group: InstanceCgroup, directory: Path) -> boot.BootSpec:
    own = {"instance_id": "i-1", "directory": str(directory), "cgroup": group.to_json()}
    return replace(TEMPLATE, **own, cpu_milli=250, boot_credit_s=0.0)


def test_on_cgroup_v2_the_cpu_limit_goes_through_the_descriptor_opened_before_the_namespace(tmp_path: Path) -> None:
    group = unified(tmp_path / "cgroup")
    directory = tmp_path / "instance"
    directory.mkdir()
    connection, other = socket.socketpair()
    with connection, other:
        init = Init(spec_of(group, directory), "", connection)
    file = tmp_path / "moved"
    (tmp_path / "cgroup/vk-u/i-1/cpu.max").rename(file)  # as after the pivot: the path is not there any more
    init._limit_cpu(tmp_path / "unused")
    assert file.read_text().startswith("25000 100000")
    assert init._cpu_limit_due is None


def test_on_cgroup_v1_groups_below_get_no_more_than_the_new_limit(tmp_path: Path) -> None:
    path, inside = tmp_path / "cpu/vk-u/i-1", tmp_path / "inside/cpu/pod"
    for directory in (path, inside):
        directory.mkdir(parents=True)
        (directory / "cpu.cfs_quota_us").write_text("90000")
        (directory / "cpu.cfs_period_us").write_text("100000")
    group = InstanceCgroup((Hierarchy(str(tmp_path / "cpu"), "cpu", False),), "vk-u/i-1")
    descriptor = group.open_cpu_limit()
    group.write_cpu_limit(descriptor, 250)
    assert (path / "cpu.cfs_quota_us").read_text() == "25000"
    assert (inside / "cpu.cfs_quota_us").read_text() == "90000"
    group.write_cpu_limit(descriptor, 500, tmp_path / "inside")
    assert (path / "cpu.cfs_quota_us").read_text() == "50000"
    assert (inside / "cpu.cfs_quota_us").read_text() == "50000"
    os.close(descriptor)


@pytest.mark.real
def test_an_instance_may_make_groups_below_its_own_but_not_write_its_own_limits(tmp_path: Path) -> None:
    group = unified(tmp_path)
    path = tmp_path / "vk-u/i-1"
    for name in ("cgroup.procs", "cgroup.subtree_control", "memory.max"):
        (path / name).touch()
    group.delegate(4711)
    owners = {name.name: name.stat().st_uid for name in (path, *path.iterdir())}
    assert {name for name, owner in owners.items() if owner == 4711} == {
        "i-1",
        "cgroup.procs",
        "cgroup.subtree_control",
    }
    assert owners["memory.max"] == owners["cpu.max"] == os.getuid()


def test_an_instance_has_its_types_memory_and_no_swap(tmp_path: Path) -> None:
    group = unified(tmp_path / "v2")
    group.create(2**30)
    assert (tmp_path / "v2/vk-u/i-1/memory.max").read_text() == str(2**30)
    assert (tmp_path / "v2/vk-u/i-1/memory.swap.max").read_text() == "0"
    old = InstanceCgroup((Hierarchy(str(tmp_path / "v1"), "memory", False),), "vk-u/i-1")
    old.create(2**30)
    assert (tmp_path / "v1/vk-u/i-1/memory.memsw.limit_in_bytes").read_text() == str(2**30)


def test_a_group_that_another_process_is_just_leaving_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "cgroup.procs").write_text("1\n0\n")
    answers = [OSError(errno.EBUSY, "busy"), OSError(errno.EBUSY, "busy"), None]
    slept: list[float] = []

    def enable(path: Path) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(cgroup, "_enable", enable)
    monkeypatch.setattr(cgroup.time, "sleep", slept.append)
    cgroup.prepare_nested_v2(root)
    assert not answers and len(slept) == 2
    answers.append(OSError(errno.ENODEV, "no"))
    with pytest.raises(OSError, match="no"):
        cgroup.prepare_nested_v2(root)


V1 = """\
25 20 0:21 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
29 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 25 0:23 / /mnt/again rw - cgroup cgroup rw,memory
"""
V2 = "30 25 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_a_hybrid_machine_uses_its_v1_controllers_once_each() -> None:
    found = parse_hierarchies(V1)
    assert [(h.path, h.options) for h in found] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
        ("/sys/fs/cgroup/memory", "memory"),
        ("/sys/fs/cgroup/systemd", "none,name=systemd"),
    ]
    assert parse_hierarchies(V2) == [Hierarchy("/sys/fs/cgroup", "", True)]
    assert parse_hierarchies("") == []
