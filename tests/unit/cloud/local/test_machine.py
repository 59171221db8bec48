"""What the local cloud needs of a machine, offers, and says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.cloud.local.records import record
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local import (
    cli,
    services,
    template,
)
from vk_provider.cloud.local.catalog import build_offerings
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.errors import BadStartError


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


def test_offerings_grow_in_price_and_stop_at_the_machines_memory() -> None:
    offerings = build_offerings("amd64", 4 * 2**30)
    assert max(o.memory_bytes for o in offerings) == 4 * 2**30
    assert [o.price_per_hour for o in offerings] == sorted(o.price_per_hour for o in offerings)
    smallest = [o for o in offerings if o.instance_type == "l1.nano"]
    assert {(o.zone, o.capacity_type) for o in smallest} == {
        (z, c) for z in ("local-a", "local-b") for c in ("on-demand", "spot")
    }
    assert {(o.cpu_milli, o.memory_bytes) for o in smallest} == {(250, 2**29)}


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
