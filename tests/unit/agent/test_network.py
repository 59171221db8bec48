"""CNI configuration and registry hosts."""

from __future__ import annotations

import errno
import json
import tomllib
from pathlib import Path

import pytest

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.network import (
    NetworkError,
    NetworkPaths,
    build_cni_conflist,
    build_hosts_toml,
    configure,
    find_mtu,
    write_cni_conflist,
    write_registry_hosts,
)


def test_the_pod_gets_exactly_its_address_without_masquerading():
    conflist = build_cni_conflist("10.1.0.8", "10.1.0.9", "10.1.0.0/16", Path("/run/ipam"), 9001)
    ptp, portmap = conflist["plugins"]
    assert (ptp["type"], ptp["ipMasq"], ptp["mtu"]) == ("ptp", False, 9001)
    (pool,) = ptp["ipam"]["ranges"][0]
    assert pool == {"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.9", "gateway": "10.1.0.8"}
    assert portmap["capabilities"] == {"portMappings": True}
    assert "mtu" not in build_cni_conflist("10.1.0.8", "10.1.0.9", "10.1.0.0/16", Path("/run/ipam"))["plugins"][0]


def test_a_pod_address_outside_the_subnet_is_refused():
    with pytest.raises(NetworkError, match=r"10\.2\.0\.9 is not in the subnet 10\.1\.0\.0/16"):
        build_cni_conflist("10.1.0.8", "10.2.0.9", "10.1.0.0/16", Path("/run/ipam"))


def test_a_pod_with_ipv6_gets_exactly_both_addresses_and_waits_for_no_address_detection():
    ipv6 = ("fd00:1::8", "fd00:1::9", "fd00:1::/64")
    conflist = build_cni_conflist("10.1.0.8", "10.1.0.9", "10.1.0.0/16", Path("/run/ipam"), ipv6=ipv6)
    loopback, tuning, ptp, portmap = conflist["plugins"]
    assert [each["type"] for each in (loopback, tuning, ptp, portmap)] == ["loopback", "tuning", "ptp", "portmap"]
    assert tuning["sysctl"] == {"net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0"}
    first, second = (pool for (pool,) in ptp["ipam"]["ranges"])
    assert (first["rangeStart"], first["rangeEnd"], first["gateway"]) == ("10.1.0.9", "10.1.0.9", "10.1.0.8")
    assert (second["rangeStart"], second["rangeEnd"], second["gateway"]) == ("fd00:1::9", "fd00:1::9", "fd00:1::8")
    assert ptp["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


@pytest.mark.parametrize(("subnet", "said"), [("fd00:2::/64", "not in the subnet fd00:2::/64"), ("", "not a network")])
def test_an_ipv6_address_outside_its_subnet_is_refused(subnet: str, said: str):
    with pytest.raises(NetworkError, match=said):
        build_cni_conflist(
            "10.1.0.8", "10.1.0.9", "10.1.0.0/16", Path("/run/ipam"), ipv6=("fd00:1::8", "fd00:1::9", subnet)
        )


def test_the_network_list_appears_in_one_step(tmp_path: Path):
    write_cni_conflist({"name": "first"}, tmp_path)
    write_cni_conflist({"name": "second"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["10-pod-network.conflist"]
    assert json.loads((tmp_path / "10-pod-network.conflist").read_text()) == {"name": "second"}


@pytest.mark.parametrize(
    ("server", "plain_http", "url"),
    [
        ("10.1.0.1:5000", True, "http://10.1.0.1:5000"),
        ("registry.example", False, "https://registry.example"),
        ("http://10.1.0.1:5000", False, "http://10.1.0.1:5000"),
    ],
)
def test_hosts_toml_names_the_server_twice(server: str, plain_http: bool, url: str):
    text = build_hosts_toml(server, plain_http)
    assert f'server = "{url}"' in text and f'[host."{url}"]' in text


def test_registry_hosts_are_written_for_each_host(tmp_path: Path):
    write_registry_hosts({"10.1.0.1:5000": {"plain_http": True}, "docker.io": {"server": "mirror:80"}}, tmp_path)
    assert "http://10.1.0.1:5000" in (tmp_path / "10.1.0.1:5000" / "hosts.toml").read_text()
    assert "https://mirror:80" in (tmp_path / "docker.io" / "hosts.toml").read_text()


@pytest.mark.parametrize("host", ["../../etc", "a/b", "", "-x", "a b"])
def test_a_registry_host_that_is_none_is_refused(tmp_path: Path, host: str):
    with pytest.raises(NetworkError, match="not a registry host"):
        write_registry_hosts({host: {}}, tmp_path / "certs.d")
    assert not (tmp_path / "certs.d").exists()


def test_a_server_cannot_break_out_of_the_file():
    with pytest.raises(NetworkError, match="not a registry URL"):
        build_hosts_toml('x"\n[host."evil', False)


def test_the_mtu_is_that_of_the_interface_with_the_hardware_address(tmp_path: Path):
    for name, mac, mtu in (("lo", "00:00:00:00:00:00", 65536), ("eth0", "02:aa:00:00:00:01", 9001)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(f"{mac}\n")
        (tmp_path / name / "mtu").write_text(f"{mtu}\n")
    (tmp_path / "bonding_masters").write_text("")
    assert find_mtu("02:AA:00:00:00:01", tmp_path) == 9001
    assert find_mtu("02:aa:00:00:00:02", tmp_path) == 0


def test_what_is_there_already_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent starts again on a disk that its pod has filled."""
    registries = {"r:5000": {"server": "http://r:5000"}}
    paths = NetworkPaths(tmp_path / "cni", tmp_path / "certs", tmp_path / "ipam")
    facts = InstanceFacts("i-1", "10.1.0.8", "10.1.0.9", "t.small", "local-a", "node-1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    configure(facts, "02:aa:bb:cc:dd:ee", "10.1.0.0/16", registries, paths)
    monkeypatch.setattr(Path, "write_bytes", full)
    configure(facts, "02:aa:bb:cc:dd:ee", "10.1.0.0/16", registries, paths)
    with pytest.raises(OSError, match="No space left"):
        configure(facts, "02:aa:bb:cc:dd:ee", "10.1.0.0/16", {"r:5000": {"server": "http://other:5000"}}, paths)


MIRROR = "http://127.0.0.1:4321"


def test_a_mirror_is_asked_for_content_before_the_registry_and_never_for_names(tmp_path: Path) -> None:
    write_registry_hosts({"r:5000": {"plain_http": True}}, tmp_path, MIRROR)
    named, others = ((tmp_path / host / "hosts.toml").read_text() for host in ("r:5000", "_default"))
    for text in (named, others):
        hosts = tomllib.loads(text)["host"]
        assert next(iter(hosts)) == MIRROR
        assert hosts[MIRROR]["capabilities"] == ["pull"]
    assert tomllib.loads(named)["server"] == "http://r:5000"
    assert list(tomllib.loads(others)) == ["host"], "the registry itself is found as without a file"


def test_without_a_mirror_the_default_is_as_the_machine_has_it(tmp_path: Path) -> None:
    write_registry_hosts({}, tmp_path, MIRROR)
    write_registry_hosts({}, tmp_path)
    assert not (tmp_path / "_default" / "hosts.toml").exists()
    (tmp_path / "_default" / "hosts.toml").write_text("server = 'https://own'\n")
    write_registry_hosts({}, tmp_path, MIRROR)
    assert (tmp_path / "_default" / "hosts.toml").read_text() == "server = 'https://own'\n"
