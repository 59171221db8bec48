"""The specification that an instance boots from."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from tests.unit.cloud.local.records import IPV6_SUBNET, record
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
    template = boot.BootSpec(
        "",
        "",
        "",
        "/layer",
        ("/x",),
        ("/x/y",),
        "/images",
        "",
        "",
        "10.9.0.0/16",
        "10.9.0.1",
        "/run/netns/n",
        "br0",
        {},
        0,
        1.0,
        ("c",),
        ("python", "agent"),
        {"A": "b"},
    )
    spec = boot.fill(
        template, record("i-0123456789abcdef0"), "/state/i", group, (("/state/shared/n/mount/p", "/tmp/p"),)
    )
    again = boot.BootSpec.from_text(spec.to_text())
    assert again == spec and again.instance_cgroup == group
    assert spec.hostname == "ip-10-9-0-16" and spec.port == "v0a090010" and spec.slot == 8
    assert boot.mac_address("10.9.0.16") == "02:56:0a:09:00:10"
    kind, _, body, _ = links.build_pair(spec, 4711, 3)
    names = (b"v0a090010\0", b"eth0\0", bytes.fromhex("02560a090010"), (4711).to_bytes(4, sys.byteorder))
    assert kind == 16 and all(name in body for name in names)


def test_go_programs_of_an_instance_run_as_many_threads_as_its_type_has_cpus() -> None:
    template = boot.BootSpec(*("",) * 3, "/layer", *((),) * 2, "/i", "", "", "10.9.0.0/16", "10.9.0.1", *("",) * 2,
                             {}, 0, 1.0, (), (), {"A": "b"})  # fmt: skip
    for cpu_milli, threads in ((250, "1"), (1000, "1"), (1001, "2"), (4000, "4")):
        spec = boot.fill(template, replace(record(), cpu_milli=cpu_milli), "/state/i", InstanceCgroup((), "g"))
        assert spec.environment == {"A": "b", "GOMAXPROCS": threads}


def test_an_instance_with_ipv6_has_its_addresses_at_once_and_answers_for_its_pods(config: LocalCloudConfig) -> None:
    with_ipv6 = replace(record(), ipv6_subnet=IPV6_SUBNET, primary_ipv6="fd00:9::10", pod_ipv6="fd00:9::11")
    template = boot.BootSpec(*("",) * 3, "/layer", *((),) * 2, "/i", "", "", "10.9.0.0/16", "10.9.0.1", *("",) * 2,
                             {}, 0, 1.0, (), (), {})  # fmt: skip
    for each, wanted in ((with_ipv6, True), (record(), False)):
        spec = boot.fill(template, each, "/state/i", InstanceCgroup((), "g"))
        assert boot.BootSpec.from_text(spec.to_text()) == spec
        does = [what for _, _, _, what in links.build_configuration(spec, 2)]
        first = ["address 10.9.0.16/16", *(["set eth0 addrgenmode"] if wanted else ()), "set eth0 up"]
        routes = ["route to default", "route to 169.254.169.254"]
        more = ["address fe80::10/64", "address fd00:9::10/64", "route to default", "proxy for fd00:9::11"]
        assert does == [*first, *routes, *(more if wanted else ())]
        assert ("fd00:9::10" in boot.build_hosts(spec)) == wanted
        assert any("ipv6" in name for name in boot.sysctls(spec)) == wanted


def test_a_boot_spec_and_a_record_of_a_version_without_ipv6_are_read(store: InstanceStore) -> None:
    store.save(record())
    path = store.directory("i-1") / "instance.json"
    document = json.loads(path.read_text())
    for name in ("ipv6_subnet", "primary_ipv6", "pod_ipv6"):
        del document[name]
    path.write_text(json.dumps(document))
    found = store.load("i-1")
    assert found == record()
    instance = found.to_instance(InstanceState.RUNNING)
    assert (instance.host_ips, instance.pod_ips) == (("10.9.0.16",), ("10.9.0.17",))
    assert metadata.read_metadata("meta-data/ipv6", found, "", "10.9.0.0/16") is None
