"""The pure parts of the local cloud."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import struct
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from vk_provider.cloud.base import InstanceRuntime, InstanceState
from vk_provider.cloud.local import (
    boot,
    cli,
    containerd,
    ipv6,
    layer,
    metadata,
    neighbour_guard,
    network,
    services,
    software,
    source_guard,
    template,
    userns,
)
from vk_provider.cloud.local.catalog import build_offerings
from vk_provider.cloud.local.cgroup import Hierarchy, InstanceCgroup, parse_hierarchies
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.golden import read_image_name, write_hosts
from vk_provider.cloud.local.metadata import MetadataServer, TokenIssuer
from vk_provider.cloud.local.pause import PAUSE_IMAGE, build_pause_program, write_pause_archive
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore, instance_id_of
from vk_provider.errors import BadStartError, CloudQuotaError

V1 = """\
25 20 0:21 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
29 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 25 0:23 / /mnt/again rw - cgroup cgroup rw,memory
"""
V2 = "30 25 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def record(instance_id: str = "i-1", primary: str = "10.9.0.16", pod: str = "10.9.0.17") -> InstanceRecord:
    return InstanceRecord(
        instance_id, "t", "l1.small", "a", "spot", "amd64", 1000, 2**30, primary, pod, 1.0, {"k": "v"}
    )


@pytest.fixture
def config(tmp_path: Path) -> LocalCloudConfig:
    return LocalCloudConfig(name="u", subnet="10.9.0.0/26", state_dir=str(tmp_path))


@pytest.fixture
def store(config: LocalCloudConfig) -> InstanceStore:
    found = InstanceStore(config)
    found.prepare()
    return found


def test_a_hybrid_machine_uses_its_v1_controllers_once_each() -> None:
    found = parse_hierarchies(V1)
    assert [(h.path, h.options) for h in found] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
        ("/sys/fs/cgroup/memory", "memory"),
        ("/sys/fs/cgroup/systemd", "none,name=systemd"),
    ]
    assert parse_hierarchies(V2) == [Hierarchy("/sys/fs/cgroup", "", True)]
    assert parse_hierarchies("") == []


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
        ("snapshots/1/fs",),
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


def test_a_port_may_send_from_the_mac_and_the_two_addresses_that_its_name_stands_for() -> None:
    sources, announcers = source_guard.build_elements(["10.9.0.16"]).splitlines()
    mac = "02:56:0a:09:00:10"
    assert sources.partition("{")[2] == f" v0a090010 . {mac} . 10.9.0.16, v0a090010 . {mac} . 10.9.0.17 }}"
    assert announcers.partition("{")[2].count(f"v0a090010 . {mac} . {mac} . 10.9.0.1") == 2
    table = source_guard.build_table(["vold"])
    assert "policy drop" in table and 'iifname "vold" accept' in table


IPV6_SUBNET = "fd00:9::/64"


def test_an_instances_ipv6_addresses_have_the_places_of_its_ipv4_ones() -> None:
    assert ipv6.translate("10.9.0.0/16", IPV6_SUBNET, "10.9.1.2") == "fd00:9::102"
    assert ipv6.host_address(IPV6_SUBNET) == "fd00:9::1"
    assert ipv6.link_local("10.9.0.0/16", "10.9.1.2") == "fe80::102"


def test_an_instance_with_ipv6_has_its_addresses_at_once_and_answers_for_its_pods(config: LocalCloudConfig) -> None:
    with_ipv6 = replace(record(), ipv6_subnet=IPV6_SUBNET, primary_ipv6="fd00:9::10", pod_ipv6="fd00:9::11")
    template = boot.BootSpec(*("",) * 3, "/layer", *((),) * 2, "/i", (), "", "", "10.9.0.0/16", "10.9.0.1", *("",) * 2,
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


def test_the_metadata_tell_an_instances_ipv6_addresses_as_ec2_does() -> None:
    found = replace(record(), ipv6_subnet=IPV6_SUBNET, primary_ipv6="fd00:9::10", pod_ipv6="fd00:9::11")
    interface = f"meta-data/network/interfaces/macs/{boot.mac_address(found.primary_ip)}"
    paths = ("meta-data/ipv6", f"{interface}/ipv6s", f"{interface}/subnet-ipv6-cidr-blocks")
    answers = [metadata.read_metadata(path, found, "", "10.9.0.0/16") for path in paths]
    assert answers == ["fd00:9::10", "fd00:9::10\nfd00:9::11", IPV6_SUBNET]


def test_a_port_may_solicit_and_advertise_its_own_addresses_at_its_own_mac() -> None:
    port = neighbour_guard.Ipv6Port("v0a090010", "02:56:0a:09:00:10", ("fd00:9::10", "fe80::10"))
    text = neighbour_guard.build_ipv6_elements("t", [port])
    targets = "{ 0xfd000009000000000000000000000010, 0xfe800000000000000000000000000010 }"
    advert = f"nd-neighbor-advert ip6 length 32 @th,192,64 0x020102560a090010 @th,64,128 {targets} accept"
    assert advert in text and "nd-neighbor-solicit ip6 length 32 @th,192,64 0x010102560a090010 accept" in text
    assert text.index("flush chain bridge t neighbours-v0a090010") < text.index("add rule")
    assert "v0a090010 . 02:56:0a:09:00:10 . fd00:9::10" in text


def test_ports_are_admitted_with_ipv6_where_the_cloud_has_it(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(source_guard, "run_command", lambda argv, text=None: ran.append(text or ""))
    source_guard.SourceGuard(config).admit("10.9.0.16")
    source_guard.SourceGuard(replace(config, ipv6_subnet=IPV6_SUBNET)).admit("10.9.0.16")
    assert "fd00:9::10" not in ran[0] and "fd00:9::11" in ran[1] and "fd00:9::3f" not in ran[1]


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("fd00::1/64", "host bits"),
        ("fd00::/97", "/96 or larger"),
        ("fe80::/64", "valid beyond one link"),
        ("ff00::/8", "valid beyond one link"),
    ],
)
def test_an_ipv6_subnet_that_is_none_is_a_bad_start(config: LocalCloudConfig, subnet: str, said: str) -> None:
    with pytest.raises(BadStartError, match="ipv6_subnet") as caught:
        replace(config, ipv6_subnet=subnet)
    assert said in str(caught.value)


def test_a_route_of_ipv6_that_overlaps_is_found() -> None:
    routes = [{"dst": "fd00::/64", "dev": "eth0"}, {"dst": "ff00::/8", "dev": "eth0", "type": "multicast"}]
    assert network.find_collision(ipaddress.IPv6Network(IPV6_SUBNET), routes, "vk-local") is None
    collision = network.find_collision(ipaddress.IPv6Network("fd00::/48"), routes, "vk-local")
    assert collision == "subnet fd00::/48 collides with the route fd00::/64 dev eth0"


def test_addresses_are_admitted_with_their_neighbours_once_and_never_beyond_the_subnet(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(source_guard, "run_command", lambda argv, text=None: ran.append(text or ""))
    guard = source_guard.SourceGuard(replace(config, subnet="10.9.0.0/23"))
    for address in ("10.9.0.16", "10.9.0.18", "10.9.1.14"):
        guard.admit(address)
    assert len(ran) == 1 and ran[0].count("10.9.1.14,") == 2
    guard.admit("10.9.1.16")
    assert len(ran) == 2 and "10.9.1.252" in ran[1] and "10.9.1.255" not in ran[1] and "10.9.2." not in ran[1]


def test_a_route_that_overlaps_the_subnet_is_found_but_not_our_own() -> None:
    subnet = ipaddress.IPv4Network("10.201.0.0/16")
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.201.0.0/16", "dev": "vk-local"}]
    assert network.find_collision(subnet, routes, "vk-local") is None
    assert "collides with the route 10.0.0.0/8 dev tun0" in str(
        network.find_collision(subnet, [*routes, {"dst": "10.0.0.0/8", "dev": "tun0"}], "vk-local")
    )
    assert network.find_collision(subnet, [{"dst": "10.201.7.1", "dev": "eth0"}], "vk-local")


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Ümlaut"},
        {"name": "far-too-long-a-name"},
        {"subnet": "10.0.0.0/30"},
        {"subnet": "10.0.0.1/16"},
        {"subnet": "fd00::/64"},
        {"state_dir": "relative"},
        {"state_dir": "/a:b"},
    ],
)
def test_bad_settings_are_a_bad_start(options: dict[str, str]) -> None:
    with pytest.raises(BadStartError):
        LocalCloudConfig(**options)


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


def test_offerings_grow_in_price_and_stop_at_the_machines_memory() -> None:
    offerings = build_offerings("amd64", 4 * 2**30)
    assert max(o.memory_bytes for o in offerings) == 4 * 2**30
    assert [o.price_per_hour for o in offerings] == sorted(o.price_per_hour for o in offerings)
    smallest = [o for o in offerings if o.instance_type == "l1.nano"]
    assert {(o.zone, o.capacity_type) for o in smallest} == {
        (z, c) for z in ("local-a", "local-b") for c in ("on-demand", "spot")
    }
    assert {(o.cpu_milli, o.memory_bytes) for o in smallest} == {(250, 2**29)}


def test_records_and_addresses_survive_the_process(config: LocalCloudConfig, store: InstanceStore) -> None:
    pair = store.allocate_addresses("i-1")
    store.save(record("i-1", *pair))
    again = InstanceStore(config)
    assert again.ids() == ["i-1"] and again.load("i-1") == record("i-1", *pair)
    assert again.load("i-2") is None
    assert again.allocate_addresses("i-2") != pair


def test_addresses_run_out_with_a_quota_error_and_come_back(store: InstanceStore) -> None:
    taken = []
    with pytest.raises(CloudQuotaError):
        for number in range(100):
            taken.append(store.allocate_addresses(f"i-{number}"))
    flat = [address for pair in taken for address in pair]
    network = ipaddress.IPv4Network("10.9.0.0/26")
    assert len(set(flat)) == len(flat) and len(taken) == 23
    assert all(ipaddress.IPv4Address(a) in network and a != str(network.broadcast_address) for a in flat)
    store.release_addresses("i-someone-else", taken[3][0])
    with pytest.raises(CloudQuotaError):
        store.allocate_addresses("i-new")
    store.release_addresses("i-3", taken[3][0])
    assert store.allocate_addresses("i-new") == taken[3]


def test_what_a_killed_launch_left_before_its_record_is_dropped(store: InstanceStore, config: LocalCloudConfig) -> None:
    pair = store.allocate_addresses("i-half")
    store.save_user_data("i-half", "secret")
    kept = store.allocate_addresses("i-whole")
    store.save(record("i-whole", *kept))
    store.drop_unclaimed(before=0)
    assert (config.addresses_dir / pair[0]).exists()
    store.drop_unclaimed(before=4e9)
    assert not (config.addresses_dir / pair[0]).exists() and not store.directory("i-half").exists()
    assert (config.addresses_dir / kept[0]).exists() and store.load("i-whole") is not None


def test_instance_ids_derive_from_tokens() -> None:
    assert instance_id_of("a") == instance_id_of("a") != instance_id_of("b")
    assert len(instance_id_of("a")) == 19


def test_a_process_is_itself_only_with_its_start_time(tmp_path: Path) -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None and me.is_alive()
    me.write(tmp_path / "pid")
    assert ProcessIdentity.read(tmp_path / "pid") == me
    assert not replace(me, start_ticks=me.start_ticks - 1).is_alive()
    (tmp_path / "pid").write_text("12 34")
    assert ProcessIdentity.read(tmp_path / "pid") is None


def test_metadata_tokens_are_bound_to_source_and_time() -> None:
    issuer = TokenIssuer(b"k")
    token = issuer.issue("10.0.0.1", 60, now=1000.0)
    assert issuer.is_valid(token, "10.0.0.1", 1059.0)
    assert not issuer.is_valid(token, "10.0.0.1", 1060.0)
    assert not issuer.is_valid(token, "10.0.0.2", 1000.0)
    assert not TokenIssuer(b"other").is_valid(token, "10.0.0.1", 1000.0)


def test_metadata_answers_by_source_address(config: LocalCloudConfig, store: InstanceStore) -> None:
    for number in (1, 2):
        pair = store.allocate_addresses(f"i-{number}")
        store.save_user_data(f"i-{number}", f"data {number}")
        store.save(record(f"i-{number}", *pair))
    server = MetadataServer(config)

    def get(path: str, source: str, token: str = "", method: str = "GET", more: str = "") -> tuple[int, str]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token: {token}\r\n{more}\r\n"
        return server.answer(head, source, 1000.0)

    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n"
    status, token = get("/latest/api/token", "10.9.0.18", method="PUT", more=ttl)
    assert status == 200
    assert get("/latest/user-data", "10.9.0.18", token) == (200, "data 2")
    assert get("/latest/meta-data/instance-id", "10.9.0.18", token) == (200, "i-2")
    assert get("/latest/user-data", "10.9.0.16", token)[0] == 401
    assert get("/latest/user-data", "10.9.0.18")[0] == 401
    assert get("/latest/user-data", "10.9.0.18", "12.\u00e9")[0] == 401
    assert get("/latest/nothing", "10.9.0.18", token)[0] == 404
    assert get("/latest/api/token", "10.9.0.18", method="PUT")[0] == 400
    assert get("/latest/api/token", "10.9.0.18", method="PUT", more=ttl + "X-Forwarded-For: x\r\n")[0] == 403
    assert server.answer("nonsense", "10.9.0.18", 0.0)[0] == 400
    strange = "X-aws-ec2-metadata-token-ttl-seconds: \u00b2\r\n"
    assert get("/latest/api/token", "10.9.0.18", method="PUT", more=strange)[0] == 400


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


def test_the_status_table_has_a_heading_and_aligns() -> None:
    first = replace(record("i-1"), tags={"Name": "default/web"}, launch_time=2.0)
    second = replace(record("i-22222"), launch_time=1.0)
    lines = cli.format_instances(
        [
            first.to_instance(InstanceState.RUNNING),
            second.to_instance(InstanceState.TERMINATED, "Client.UserInitiatedShutdown: by request"),
        ]
    )
    assert [line.split()[0] for line in lines[:-1]] == ["INSTANCE", "i-22222", "i-1"]
    assert lines[1].index("Client.") == lines[0].index("REASON")
    assert lines[2].index("default/web") == lines[0].index("POD") and not lines[2].endswith(" ")


def test_the_status_says_what_each_instance_costs_and_all_of_them() -> None:
    small = replace(record("i-1"), zone="local-a", capacity_type="on-demand").to_instance(InstanceState.RUNNING)
    spot = replace(record("i-2"), zone="local-a").to_instance(InstanceState.PENDING)
    gone = replace(record("i-3"), zone="local-a").to_instance(InstanceState.TERMINATED)
    lines = cli.format_instances([small, spot, gone])
    at = lines[0].index("PRICE/H")
    assert [line[at:].split()[0] for line in lines[1:4]] == ["$0.0240", "$0.0084", "-"]
    assert lines[-1] == "2 instances at $0.0324 per hour"
    assert cli.format_instances([small])[-1] == "1 instance at $0.0240 per hour"


def test_what_every_pod_needs_of_the_machine_is_missed_at_the_start(
    config: LocalCloudConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins, programs = tmp_path / "cni", tmp_path / "bin"
    for directory, names in ((plugins, ("loopback", "ptp", "host-local", "portmap")), (programs, ("nft",))):
        directory.mkdir()
        for name in names:
            (directory / name).touch(0o755)
    monkeypatch.setattr(services, "_PATH", str(programs))
    config = replace(config, cni_bin_dir=str(plugins))
    template.check_instance_programs(config)
    with pytest.raises(BadStartError, match="no CNI plugin tuning"):
        template.check_instance_programs(replace(config, ipv6_subnet="fd00:9::/64"))
    (plugins / "ptp").chmod(0o644)
    with pytest.raises(BadStartError, match="no CNI plugin ptp in .*containernetworking-plugins"):
        template.check_instance_programs(config)
    (programs / "nft").unlink()
    with pytest.raises(BadStartError, match="install the package nftables"):
        template.check_instance_programs(config)
