"""What an instance is, seen from inside and from the host."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import time

import pytest

from tests.integration.local_cloud.conftest import request
from tests.integration.local_cloud.machine import (
    bridge_ports,
    cgroup_directories,
    cpu_seconds,
    exists,
    inside,
    mounts,
    processes,
    run,
    until,
)
from tests.launching import launch_each
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.local.cloud import LocalCloud

pytestmark = pytest.mark.real

CURL = "curl -s -m 2"


async def launch(cloud: LocalCloud, *tokens: str) -> list[Instance]:
    results = await launch_each(cloud, [await request(cloud, token) for token in tokens])
    for result in results:
        assert isinstance(result, Instance), result
        await booted(cloud, result)
    return [result for result in results if isinstance(result, Instance)]


async def booted(cloud: LocalCloud, instance: Instance) -> None:
    """Wait for containerd's socket; before process 1 has its own root, `inside` would look at the host's files."""
    name = "ip-" + instance.primary_ip.replace(".", "-")
    script = f'test "$(hostname)" = {name} && test -S /run/containerd/containerd.sock && echo yes'
    await until(lambda: inside(cloud, instance.instance_id, script, check=False) == "yes")


async def test_containerd_answers_cri_with_the_pause_image_soon_after_launch(cloud: LocalCloud) -> None:
    began = time.monotonic()
    (instance,) = await launch(cloud, "boot")
    assert time.monotonic() - began < 5
    images = inside(cloud, instance.instance_id, "ctr -n k8s.io images ls -q")
    assert "vk-provider.internal/pause:1" in images
    plugins = inside(cloud, instance.instance_id, "ctr plugins ls")
    assert [line for line in plugins.splitlines() if "grpc.v1" in line and "cri" in line and " ok" in line]


async def test_writes_in_an_instance_never_reach_the_host(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "a", "b")
    name = f"vk-test-{os.getpid()}"
    for directory in ("/tmp", "/mnt", "/etc", "/var", "/root", "/var/log", "/dev/shm", "/run"):
        inside(cloud, first.instance_id, f"echo x > {directory}/{name}")
        assert not exists(directory, name)
        assert inside(cloud, second.instance_id, f"ls {directory}/{name}", check=False) == ""


async def test_an_instance_has_its_own_names_and_sees_only_its_processes(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "names")
    hostname = "ip-" + instance.primary_ip.replace(".", "-")
    assert inside(cloud, instance.instance_id, "hostname; cat /etc/hostname").split() == [hostname, hostname]
    assert f"{instance.primary_ip} {hostname}" in inside(cloud, instance.instance_id, "cat /etc/hosts")
    assert inside(cloud, instance.instance_id, "cat /proc/1/comm") == "vk-init"
    assert len(inside(cloud, instance.instance_id, "ls -d /proc/[0-9]*").split()) < 20
    for hidden in ("/mnt", "/var/lib/vk-provider", "/etc/cni/net.d", cloud.config.state_dir):
        assert inside(cloud, instance.instance_id, f"ls -A {hidden}", check=False) == ""


async def test_cpu_and_memory_of_the_type_are_enforced(cloud: LocalCloud) -> None:
    (result,) = await launch_each(cloud, [await request(cloud, "limits", cpu_milli=250)])
    assert isinstance(result, Instance)
    await booted(cloud, result)
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert int(inside(cloud, result.instance_id, limit)) == 512 * 2**20
    before, began = cpu_seconds(cloud, result.instance_id), time.monotonic()
    inside(cloud, result.instance_id, "exec timeout 2 sh -c 'while :; do :; done'", False, limited=True)
    used = cpu_seconds(cloud, result.instance_id) - before
    assert 0 < used < 0.40 * (time.monotonic() - began)


async def test_addresses_work_between_host_instances_and_pod_addresses(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "net-a", "net-b")
    in_pod = "nsenter --net=/run/netns/pod"  # `ip -n` would mount a sysfs, which a user namespace refuses
    for instance in (first, second):
        pod = (
            "ip netns add pod; ip link add vpod type veth peer name eth0 netns pod; ip link set vpod up;"
            f"ip route add {instance.pod_ip} dev vpod; {in_pod} ip link set eth0 up; {in_pod} ip link set lo up;"
            f"{in_pod} ip addr add {instance.pod_ip}/32 dev eth0; {in_pod} ip route add {instance.primary_ip} dev eth0;"
            f"{in_pod} ip route add default via {instance.primary_ip}"
        )
        inside(cloud, instance.instance_id, pod)
        serve = f"setsid {sys.executable} -m http.server 8000 -d /etc/cni >/dev/null 2>&1 &"
        inside(cloud, instance.instance_id, f"{serve} {in_pod} {serve}")
    get = "curl -s -o /dev/null --retry 30 --retry-connrefused --retry-delay 0 --retry-max-time 5 -m 2"
    run(*get.split(), f"http://{first.primary_ip}:8000/")
    run(*get.split(), f"http://{first.pod_ip}:8000/")
    inside(cloud, first.instance_id, f"{get} http://{second.primary_ip}:8000/")
    inside(cloud, first.instance_id, f"{in_pod} {get} http://{second.pod_ip}:8000/")
    with socket.create_server((cloud.config.host_ip, 0)) as host:
        address = f"/dev/tcp/{cloud.config.host_ip}/{host.getsockname()[1]}"
        inside(cloud, first.instance_id, f"{in_pod} timeout 3 bash -c ': < {address}'")
    # the metadata service answers the instance, and its answers die before a pod
    token = f"{CURL} -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
    assert inside(cloud, first.instance_id, token)
    assert inside(cloud, first.instance_id, f"{in_pod} {token}", check=False) == ""


async def test_the_bridge_keeps_its_address_when_instances_come_and_go(cloud: LocalCloud) -> None:
    show = ("ip", "-n", cloud.config.namespace, "-br", "link", "show", "br0")
    before = run(*show).split()[2]
    instances = await launch(cloud, *(f"mac-{number}" for number in range(6)))
    assert run(*show).split()[2] == before
    await cloud.terminate([instance.instance_id for instance in instances])
    assert run(*show).split()[2] == before


async def test_the_metadata_service_tells_each_instance_about_itself_only_with_a_token(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "meta-a", "meta-b")
    url = "http://169.254.169.254/latest"
    for instance, name in ((first, "meta-a"), (second, "meta-b")):
        assert inside(cloud, instance.instance_id, f"{CURL} -o /dev/null -w '%{{http_code}}' {url}/user-data") == "401"
        fetch = (
            f"T=$({CURL} -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {url}/api/token);"
            f'get() {{ {CURL} -H "X-aws-ec2-metadata-token: $T" {url}/$1; echo; }};'
            "get user-data; get meta-data/instance-id; get meta-data/local-ipv4;"
            "get meta-data/placement/availability-zone;"
            "M=$(get meta-data/mac); get meta-data/network/interfaces/macs/$M/local-ipv4s;"
            "get meta-data/network/interfaces/macs/$M/subnet-ipv4-cidr-block; cat /sys/class/net/eth0/address; echo $M"
        )
        lines = inside(cloud, instance.instance_id, fetch).split("\n")
        assert lines[:4] == [f'{{"for": "{name}"}}', instance.instance_id, instance.primary_ip, instance.zone]
        assert lines[4:7] == [instance.primary_ip, instance.pod_ip, cloud.config.subnet]
        assert lines[7] == lines[8]


async def test_containerd_and_the_agent_are_started_again_when_they_die(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "restart")
    for name in ("containerd", "vk-agent"):
        found = functools.partial(processes, cloud, instance.instance_id, name)
        (pid,) = await until(found)
        os.kill(pid, signal.SIGKILL)
        await until(lambda found=found, pid=pid: found() not in ([], [pid]))
    assert [i.state for i in await cloud.describe([instance.instance_id])] == [InstanceState.RUNNING]


async def test_what_containerd_keeps_outlives_it_and_never_waits_for_the_disk(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "databases")

    def run(script: str) -> str:
        return inside(cloud, instance.instance_id, script, check=False)

    for database in ("metadata.v1.bolt/meta.db", "snapshotter.v1.overlayfs/metadata.db"):
        assert run(f"stat -f -c %T /var/lib/containerd/io.containerd.{database}") == "tmpfs"
    run("ctr -n k8s.io images tag vk-provider.internal/pause:1 vk-provider.internal/kept:1")
    found = functools.partial(processes, cloud, instance.instance_id, "containerd")
    (pid,) = found()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: found() not in ([], [pid]))
    await until(lambda: "vk-provider.internal/kept:1" in run("ctr -n k8s.io images ls -q"))


async def test_the_first_process_reaps_orphans(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "orphans")
    inside(cloud, instance.instance_id, "setsid sh -c 'sleep 0.1 & exit 0' & wait; unshare --fork true")
    script = "grep -l '^State:.Z' /proc/[0-9]*/status"
    await until(lambda: inside(cloud, instance.instance_id, script, check=False) == "")


async def test_killing_the_first_process_terminates_the_instance_and_leaves_nothing(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "killed")
    os.kill(cloud._store.identity(instance.instance_id).pid, signal.SIGKILL)

    async def is_terminated() -> bool:
        (found,) = await cloud.describe([instance.instance_id])
        return found.state is InstanceState.TERMINATED and "first process ended" in found.state_reason

    await until(is_terminated)
    left = cloud._store.directory(instance.instance_id)
    await until(lambda: sorted(path.name for path in left.iterdir()) in (["instance.json"], ["instance.json", "lock"]))
    assert bridge_ports(cloud.config) == []
    assert not [path for base in cgroup_directories(cloud.config) for path in base.glob("i-*")]
    assert str(left) not in mounts()


async def test_sigterm_shuts_an_instance_down(cloud: LocalCloud) -> None:
    (instance,) = await launch(cloud, "shutdown")
    identity = cloud._store.identity(instance.instance_id)
    assert identity is not None
    os.kill(identity.pid, signal.SIGTERM)
    await until(lambda: not identity.is_alive())
