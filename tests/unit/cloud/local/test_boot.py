"""The specification that an instance boots from."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.unit.cloud.local.records import IPV6_SUBNET, record
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local import (
    boot,
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
    assert "peer name eth0 address 02:56:0a:09:00:10 netns 4711" in boot.build_bridge_batch(spec, 4711)
    assert "addr add 10.9.0.16/16 dev eth0" in boot.build_instance_batch(spec)


def test_an_instance_with_ipv6_has_its_addresses_at_once_and_answers_for_its_pods(config: LocalCloudConfig) -> None:
    with_ipv6 = replace(record(), ipv6_subnet=IPV6_SUBNET, primary_ipv6="fd00:9::10", pod_ipv6="fd00:9::11")
    template = boot.BootSpec(*("",) * 3, "/layer", *((),) * 2, "/i", "", "", "10.9.0.0/16", "10.9.0.1", *("",) * 2,
                             {}, 0, 1.0, (), (), {})  # fmt: skip
    for each, wanted in ((with_ipv6, True), (record(), False)):
        spec = boot.fill(template, each, "/state/i", InstanceCgroup((), "g"))
        assert boot.BootSpec.from_text(spec.to_text()) == spec
        lines = boot.build_instance_batch(spec).splitlines()
        for line in (
            "link set eth0 addrgenmode none",
            "addr add fe80::10/64 dev eth0 nodad",
            "addr add fd00:9::10/64 dev eth0 nodad",
            "route add default via fd00:9::1 dev eth0",
            "neigh add proxy fd00:9::11 dev eth0",
        ):
            assert (line in lines) == wanted
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
