"""The specification that an instance boots from."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from tests.unit.cloud.local.records import IPV6_ADDRESSES, IPV6_SUBNET, TEMPLATE, record
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local import (
    boot,
    links,
    metadata,
)
from vk_provider.cloud.local.cgroup import Hierarchy, InstanceCgroup
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceStore


def test_a_boot_spec_survives_its_file() -> None:
    group = InstanceCgroup((Hierarchy("/c/cpu", "cpu", False),), "vk-u/i-1")
    spec = boot.fill(
        TEMPLATE, record("i-0123456789abcdef0"), "/state/i", group, (("/state/shared/n/mount/p", "/tmp/p"),)
    )
    again = boot.BootSpec.from_text(spec.to_text())
    assert again == spec and again.instance_cgroup == group
    assert spec.hostname == "ip-10-9-0-16" and spec.port == "v0a090010" and spec.slot == 8
    assert boot.mac_address("10.9.0.16") == "02:56:0a:09:00:10"
    kind, _, body, _ = links.build_pair(spec, 4711, 3)
    names = (b"v0a090010\0", b"eth0\0", bytes.fromhex("02560a090010"), (4711).to_bytes(4, sys.byteorder))
    assert kind == 16 and all(name in body for name in names)


def test_go_programs_of_an_instance_run_as_many_threads_as_its_type_has_cpus() -> None:
    for cpu_milli, threads in ((250, "1"), (1000, "1"), (1001, "2"), (4000, "4")):
        spec = boot.fill(TEMPLATE, replace(record(), cpu_milli=cpu_milli), "/state/i", InstanceCgroup((), "g"))
        assert spec.environment == {"A": "b", "GOMAXPROCS": threads}


def test_an_instance_with_ipv6_has_its_addresses_at_once_and_answers_for_its_pods(config: LocalCloudConfig) -> None:
    with_ipv6 = replace(record(), addresses=IPV6_ADDRESSES)
    for each, wanted in ((with_ipv6, True), (record(), False)):
        spec = boot.fill(TEMPLATE, each, "/state/i", InstanceCgroup((), "g"))
        assert boot.BootSpec.from_text(spec.to_text()) == spec
        does = [what for _, _, _, what in links.build_configuration(spec, 2)]
        first = ["address 10.9.0.16/16", *(["set eth0 addrgenmode"] if wanted else ()), "set eth0 up"]
        routes = ["route to default", "route to 169.254.169.254"]
        more = ["address fe80::10/64", "address fd00:9::10/64", "route to default", "proxy for fd00:9::11"]
        assert does == [*first, *routes, *(more if wanted else ())]
        assert ("fd00:9::10" in boot.build_hosts(spec)) == wanted
        assert any("ipv6" in name for name in boot.sysctls(spec)) == wanted


# As versions write them whose records were flat, with and without IPv6. They stay so: an older one may read them, too.
RECORD = {
    "instance_id": "i-1",
    "client_token": "t",
    "instance_type": "l1.small",
    "zone": "a",
    "capacity_type": "spot",
    "architecture": "amd64",
    "cpu_milli": 1000,
    "memory_bytes": 1 << 30,
    "primary_ip": "10.9.0.16",
    "pod_ip": "10.9.0.17",
    "launch_time": 1.0,
    "tags": {"k": "v"},
    "state": "pending",
    "state_reason": "",
    "terminated_time": 0.0,
    "parameters": "",
    "shared_host_paths": [],
}
BOOT = {
    "instance_id": "i-1",
    "hostname": "ip-10-9-0-16",
    "directory": "/state/i",
    "layer": "/layer",
    "binds": ["/x"],
    "hidden": ["/x/y"],
    "images": "/images",
    "primary_ip": "10.9.0.16",
    "pod_ip": "10.9.0.17",
    "subnet": "10.9.0.0/16",
    "gateway": "10.9.0.1",
    "bridge_namespace": "/run/netns/n",
    "bridge": "br0",
    "cgroup": InstanceCgroup((), "g").to_json(),
    "cpu_milli": 1000,
    "boot_credit_s": 1.0,
    "containerd": ["c"],
    "agent": ["python", "agent"],
    "environment": {"A": "b", "GOMAXPROCS": "1"},
}
IPV6 = {"ipv6_subnet": IPV6_SUBNET, "primary_ipv6": "fd00:9::10", "pod_ipv6": "fd00:9::11"}
NO_IPV6 = dict.fromkeys(IPV6, "")


@pytest.mark.parametrize("written", [{}, NO_IPV6, IPV6], ids=["before IPv6", "without IPv6", "with IPv6"])
def test_a_boot_spec_and_a_record_of_an_earlier_version_are_read_and_written_as_they_were(
    store: InstanceStore, written: dict[str, str]
) -> None:
    wanted = replace(record(), addresses=IPV6_ADDRESSES) if written is IPV6 else record()
    path = store.directory("i-1") / "instance.json"
    path.parent.mkdir()
    path.write_text(json.dumps(RECORD | written | {"of_a_newer_version": 1}))
    found = store.load("i-1")
    assert found == wanted
    store.save(found)
    assert json.loads(path.read_text()) == RECORD | {"image_store": ""} | (written or NO_IPV6)
    spec = boot.BootSpec.from_text(json.dumps(BOOT | written))
    assert spec == boot.fill(TEMPLATE, wanted, "/state/i", InstanceCgroup((), "g"))
    assert json.loads(spec.to_text()) == BOOT | {"shared": []} | (written or NO_IPV6)
    instance = found.to_instance(InstanceState.RUNNING)
    assert (instance.host_ips[0], instance.pod_ips[0]) == ("10.9.0.16", "10.9.0.17")
    assert (len(instance.host_ips), len(instance.pod_ips)) == ((2, 2) if written is IPV6 else (1, 1))
    told = metadata.read_metadata("meta-data/ipv6", found, "", "10.9.0.0/16")
    assert told == ("fd00:9::10" if written is IPV6 else None)


NO_ADDRESS = {name: value for name, value in RECORD.items() if name != "primary_ip"}


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{}", json.dumps(RECORD)[:-9], json.dumps(NO_ADDRESS)])
def test_a_record_that_is_none_is_not_read(store: InstanceStore, text: str) -> None:
    path = store.directory("i-1") / "instance.json"
    path.parent.mkdir()
    path.write_text(text)
    assert store.load("i-1") is None
