"""Figures of cgroups v1 and v2, and the documents built from them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.kubelet.rig import FakeView
from tests.wire_check import assert_fits
from vk_provider.agent.stats import machine
from vk_provider.agent.stats.cgroup import CgroupFigures, CgroupReader, CpuFigures, MemoryFigures, _read, find_mounts
from vk_provider.agent.stats.document import ContainerSample, PodSample, build_cadvisor, build_pod
from vk_provider.agent.stats.machine import measure_directory, parse_net_dev
from vk_provider.agent.stats.sampler import Sampler, _read_lines, run_stats

NET_DEV = """\
Inter-|   Receive                  |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0     0
  eth0: 1000000      20    3    4    0     0          0         0     2000      30    5    6    0     0       0     0
"""
MOUNTINFO = """\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def test_mounts_of_every_controller_are_found() -> None:
    mounts = find_mounts(MOUNTINFO)
    assert mounts["cpuacct"] == mounts["cpu"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert (mounts["memory"], mounts[""]) == (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified"))


@pytest.fixture
def v1(tmp_path: Path) -> CgroupReader:
    path = "kubepods/poduid-1/abc"
    write(tmp_path / "cpu" / path, {"cpuacct.usage": "5000\n", "cpuacct.stat": "user 2\nsystem 1\n"})
    write(
        tmp_path / "cpu" / path,
        {
            "cpu.stat": "nr_periods 7\nnr_throttled 3\nthrottled_time 99\n",
            "cpu.shares": "512",
            "cpu.cfs_quota_us": "50000",
            "cpu.cfs_period_us": "100000",
        },
    )
    write(
        tmp_path / "memory" / path,
        {
            "memory.usage_in_bytes": "10000",
            "memory.limit_in_bytes": "20000",
            "memory.stat": "cache 1\ntotal_rss 3000\ntotal_inactive_file 4000\ntotal_pgfault 8\n",
            "cgroup.procs": "1\n2\n",
        },
    )
    return CgroupReader({"cpu": tmp_path / "cpu", "cpuacct": tmp_path / "cpu", "memory": tmp_path / "memory"})


def test_a_container_is_found_and_read_in_v1(v1: CgroupReader) -> None:
    path = v1.find("abc")
    assert path == "kubepods/poduid-1/abc"
    figures = v1.read(path)
    cpu, memory = figures.cpu, figures.memory
    assert (cpu.total_ns, cpu.user_ns, cpu.periods, cpu.throttled_ns) == (5000, 20_000_000, 7, 99)
    assert (memory.usage, figures.working_set, memory.rss, memory.limit) == (10000, 6000, 3000, 20000)
    assert (figures.cpu.shares, figures.cpu.quota_us, figures.pids) == (512, 50000, (1, 2))
    assert v1.find("other") is None


def test_a_container_is_found_and_read_in_v2(tmp_path: Path) -> None:
    write(
        tmp_path / "kubepods.slice" / "cri-containerd-abc.scope",
        {
            "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\n",
            "cpu.max": "50000 100000\n",
            "cpu.weight": "20",
            "memory.current": "10000",
            "memory.max": "max",
            "memory.stat": "anon 3000\ninactive_file 4000\n",
            "memory.events": "oom_kill 2\nmax 4\n",
            "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:1 rbytes=1 wbytes=2\n",
            "cgroup.procs": "",
        },
    )
    reader = CgroupReader({"": tmp_path})
    path = reader.find("abc")
    assert path is not None
    figures = reader.read(path)
    assert (figures.cpu.total_ns, figures.cpu.quota_us, figures.cpu.shares) == (5000, 50000, 500)
    assert (figures.memory.limit, figures.working_set, figures.memory.oom_kills) == (None, 6000, 2)
    assert (figures.read_bytes, figures.write_bytes) == (11, 22)


def test_mount_points_of_any_name_are_read(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_bytes(b"31 30 0:27 / /mnt/\xff rw - tmpfs tmpfs rw\n" + MOUNTINFO.encode())
    assert "memory" in find_mounts(_read(tmp_path / "mountinfo"))
    assert len(_read_lines(str(tmp_path / "mountinfo"))) == 5


def test_a_cgroup_that_vanished_reads_as_nothing(v1: CgroupReader) -> None:
    assert v1.read("gone") == CgroupFigures()


def test_something_that_runs_has_a_working_set() -> None:
    assert CgroupFigures(memory=MemoryFigures(usage=10, inactive_file=20), pids=(1,)).working_set == 4096
    assert CgroupFigures(memory=MemoryFigures(usage=10, inactive_file=20)).working_set == 0


def test_network_counters_leave_loopback_out() -> None:
    (eth0,) = parse_net_dev(NET_DEV)
    assert (eth0.name, eth0.rx_bytes, eth0.rx_errors, eth0.tx_bytes, eth0.tx_dropped) == ("eth0", 1000000, 3, 2000, 6)


def test_a_directory_is_measured_with_all_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/")
    usage = measure_directory(str(tmp_path))
    assert usage.inodes == 5
    assert usage.used_bytes >= 98_304
    assert measure_directory(str(tmp_path / "none")).inodes == 0


def make_sample(name: str, cpu_ns: int) -> ContainerSample:
    figures = CgroupFigures(CpuFigures(cpu_ns), MemoryFigures(usage=10, limit=1 << 62), pids=(1,))
    return ContainerSample(name, "abc", "i", "2026-01-02T03:04:05Z", figures, 7, "x/abc", 100, 3, 50)


def test_a_pod_adds_up_its_containers() -> None:
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "status": {"startTime": "t"}}
    containers = [make_sample("a", 1), make_sample("b", 2)]
    sample = PodSample(containers, make_sample("", 4), None, 9, parse_net_dev(NET_DEV), [], {})
    document = build_pod("now", pod, sample)
    assert document["podRef"] == {"name": "p", "namespace": "ns", "uid": "u"}
    assert document["cpu"] == {"time": "now", "usageNanoCores": 9, "usageCoreNanoSeconds": 7}
    assert document["ephemeral-storage"]["usedBytes"] == 300
    assert document["process_stats"] == {"process_count": 2}
    assert document["network"]["name"] == "eth0" and document["network"]["rxBytes"] == 1000000
    assert "availableBytes" not in document["memory"]
    assert [item["name"] for item in document["containers"]] == ["a", "b"]


def test_cadvisor_samples_of_the_sandbox_are_the_network() -> None:
    container, sandbox = build_cadvisor(1.0, [make_sample("a", 1)], make_sample("", 4), parse_net_dev(NET_DEV))
    names = {sample[0] for sample in container["samples"]}
    assert {"container_cpu_usage_seconds_total", "container_memory_working_set_bytes"} <= names
    assert not any(name.startswith("container_network") for name in names)
    assert ["container_network_receive_bytes_total", {"interface": "eth0"}, 1000000] in sandbox["samples"]
    assert sandbox["container"] == ""


class Runtime:
    async def list_container_stats(self, sandbox_id: str) -> list[Any]:
        return []


async def test_nothing_is_sampled_before_a_container_runs(v1: CgroupReader) -> None:
    view = FakeView(status={})
    assert await Sampler(view, Runtime(), cgroups=v1).sample() is None


PROBE = {"container": "c", "probeType": "Liveness", "result": "successful", "count": 1}


async def test_a_sample_holds_pod_and_instance(v1: CgroupReader, tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text("12345")
    view = FakeView(paths={"abc": str(tmp_path / "0.log")})
    sampler = Sampler(view, Runtime(), probes=lambda: [PROBE], cgroups=v1)
    message = await sampler.sample()
    assert message is not None and sampler.latest is message
    (container,) = message["pod"]["containers"]
    assert (container["name"], container["cpu"]["usageCoreNanoSeconds"]) == ("c", 5000)
    assert container["logs"]["usedBytes"] == 5
    assert message["podUID"] == "uid-1" and message["probes"] == [PROBE]
    assert_fits(message)
    assert message["node"]["memory"]["workingSetBytes"] > 0
    assert message["node"]["cpu"]["usageCoreNanoSeconds"] > 0
    (tmp_path / "cpu" / "kubepods/poduid-1/abc/cpuacct.usage").write_text("9000000000\n")
    again = await sampler.sample()
    assert again is not None and again["pod"]["containers"][0]["cpu"]["usageNanoCores"] > 0


class VanishingReader(CgroupReader):
    """A container's cgroup that is removed while it is read."""

    def read(self, path: str) -> CgroupFigures:
        shutil.rmtree(self._base() / path, ignore_errors=True)
        return super().read(path)


async def test_a_container_that_ends_while_it_is_read_is_left_out(v1: CgroupReader) -> None:
    message = await Sampler(FakeView(), Runtime(), cgroups=VanishingReader(v1._mounts)).sample()
    assert message is not None
    assert message["pod"]["containers"] == [] and message["cadvisor"] == []


class VolumeView(FakeView):
    def volume_paths(self) -> dict[str, str]:
        return self.volumes


async def test_a_host_path_is_neither_walked_nor_counted(v1: CgroupReader, tmp_path: Path) -> None:
    for name in ("own", "foreign"):
        write(tmp_path / name, {"file": "x" * 50_000})
    view = VolumeView()
    view.volumes = {name: str(tmp_path / name) for name in ("own", "foreign")}
    assert view.pod is not None
    view.pod["spec"]["volumes"] = [
        {"name": "own", "emptyDir": {}},
        {"name": "foreign", "hostPath": {"path": str(tmp_path / "foreign")}},
    ]
    message = await Sampler(view, Runtime(), cgroups=v1).sample()
    assert message is not None
    assert [volume["name"] for volume in message["pod"]["volume"]] == ["own"]
    assert 50_000 <= message["pod"]["ephemeral-storage"]["usedBytes"] < 100_000


async def test_rates_do_not_follow_the_clock_and_counters_of_ended_containers_go(
    v1: CgroupReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic_s, wall_s = 100.0, 1e9
    monkeypatch.setattr("vk_provider.agent.stats.sampler.time.monotonic", lambda: monotonic_s)
    monkeypatch.setattr("vk_provider.agent.stats.sampler.time.time", lambda: wall_s)
    view = FakeView()
    sampler = Sampler(view, Runtime(), cgroups=v1)
    await sampler.sample()
    (tmp_path / "cpu" / "kubepods/poduid-1/abc/cpuacct.usage").write_text("5000005000\n")
    monotonic_s, wall_s = 110.0, 1e9 - 3600
    again = await sampler.sample()
    assert again is not None
    assert again["pod"]["containers"][0]["cpu"]["usageNanoCores"] == 500_000_000
    (tmp_path / "cpu" / "kubepods/poduid-1/abc/cpuacct.usage").write_text("7\n")
    monotonic_s = 120.0
    fallen = await sampler.sample()
    assert fallen is not None and fallen["pod"]["containers"][0]["cpu"]["usageNanoCores"] == 0
    shutil.rmtree(tmp_path / "memory" / "kubepods")
    await sampler.sample()
    assert sampler._counters.keys() <= {"pod", "node"}


async def test_a_sample_that_cannot_be_taken_is_not_the_end() -> None:
    class Broken:
        calls = 0

        async def sample(self) -> None:
            self.calls += 1
            if self.calls == 3:
                raise asyncio.CancelledError
            raise ValueError("invalid literal for int()")

    with pytest.raises(asyncio.CancelledError):
        await run_stats(Broken(), None, 0.0)


def test_only_an_instance_that_is_the_whole_machine_says_how_much_memory_it_has(
    v1: CgroupReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(FakeView(), Runtime(), cgroups=v1)
    limits: list[int | None] = [None, 1 << 62, 4 << 30]
    found = []
    for limit in limits:
        figures = CgroupFigures(memory=MemoryFigures(limit=limit))
        monkeypatch.setattr(v1, "read", lambda path, figures=figures: figures)
        monkeypatch.setattr(machine, "read_meminfo", lambda: {"MemTotal": 8 << 30})
        found.append(sampler.instance_memory_bytes())
    assert found == [8 << 30, 8 << 30, 0]
