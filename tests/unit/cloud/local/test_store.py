"""What the local cloud keeps on disk."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.cloud.local.records import record
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.local.store import InstanceStore, instance_id_of
from vk_provider.errors import CloudQuotaError


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
