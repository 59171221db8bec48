"""The local cloud when the disk is full, a process was killed in the middle, or the machine is too small."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.launching import launch_each
from tests.unit.cloud.local.records import TEMPLATE
from vk_provider.cloud.base import TAG_OWNER, Instance, InstanceState, LaunchRequest
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.local import boot, launcher, network, services
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.catalog import build_offerings
from vk_provider.cloud.local.cgroup import Hierarchy, InstanceCgroup
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.command import CommandError
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.cloud.local.golden import GoldenRoot
from vk_provider.cloud.local.images import SharedImages, share_images
from vk_provider.cloud.local.launcher import Launcher
from vk_provider.cloud.local.limit import InstanceLimit, compute_instance_limit
from vk_provider.cloud.local.preparation import Preparation
from vk_provider.cloud.local.prepared import LocalImageStores
from vk_provider.cloud.local.source_guard import SourceGuard
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore
from vk_provider.errors import BadStartError, CloudError, CloudQuotaError

OFFERINGS = build_offerings("amd64")


@pytest.fixture
def config(tmp_path: Path) -> LocalCloudConfig:
    return LocalCloudConfig(name="u", subnet="10.9.0.0/24", state_dir=str(tmp_path / "state"), launch_concurrency=8)


@pytest.fixture
def store(config: LocalCloudConfig) -> InstanceStore:
    found = InstanceStore(config)
    found.prepare()
    return found


@pytest.fixture
def root(tmp_path: Path) -> SharedImages:
    tree = tmp_path / "golden/tree"
    (tree / boot.CONTENT).mkdir(parents=True)
    (tree / boot.CONTENT / "blob").write_text("manifest")
    (tree / boot.SNAPSHOTS / "1/fs/bin").mkdir(parents=True)
    (tree / boot.SNAPSHOTS / "1/fs/bin/sh").write_text("program")
    (tree / "native/snapshots").mkdir(parents=True)
    (tmp_path / "golden/db/meta").mkdir(parents=True)
    (tmp_path / "golden/db/meta/meta.db").write_text("database")
    return share_images(GoldenRoot(tmp_path / "golden", "pause:1"), tmp_path / "images", tmp_path / "instances")


class NoLauncher:
    """Stands for the launcher process; starts nothing."""

    async def launch(self, directory: Path) -> None:
        """As if it had started the instance."""

    async def close(self) -> None:
        """Nothing to end."""


def stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no bridge to guard, no metadata service, nor root's right to give files away."""
    monkeypatch.setattr(services, "metadata_running", lambda config: True)
    monkeypatch.setattr(SourceGuard, "admit", lambda self, primary_ip: None)
    monkeypatch.setattr(InstanceCgroup, "delegate", lambda self, owner: None)


@pytest.fixture
async def cloud(
    config: LocalCloudConfig, store: InstanceStore, root: SharedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A cloud as after `start`, on ordinary directories."""
    found: Any = LocalCloud(config, "me")
    found._offerings = OFFERINGS
    found._hierarchies = (Hierarchy(str(tmp_path / "cgroup"), "pids", False),)
    stores = LocalImageStores(config.stores_dir, config.instances_dir, root, Containerd("/c", "/ctr", (1, 6, 20)))
    found._preparation = Preparation(config, found._store, TEMPLATE, stores, found._cgroup)
    found._launcher = NoLauncher()
    stand_apart(monkeypatch)
    yield found
    await found.close()


def request(token: str) -> LaunchRequest:
    return LaunchRequest(token, (OFFERINGS[0],), {TAG_OWNER: "me"}, "{}")


def record(instance_id: str, primary: str) -> InstanceRecord:
    return InstanceRecord(
        instance_id, "t", "l1.small", "a", "spot", "amd64", 1000, 2**30, Addresses(primary, "10.9.0.99"), 1.0
    )


def no_space(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_of_the_images_is_on_an_instances_disk_but_links_that_lead_to_its_own_mounts(
    root: SharedImages, tmp_path: Path
) -> None:
    root.make_root(tmp_path / "one")
    found = {str(path.relative_to(tmp_path / "one")): path for path in (tmp_path / "one").rglob("*")}
    assert set(found) == {boot.CONTENT, "work", "snapshots", "snapshots/1", "volumes"}, found
    links = {name: os.readlink(path) for name, path in found.items() if path.is_symlink()}
    assert links == {"snapshots/1": f"{boot.PREPARED}/1"} and root.layers == ("1",)
    # Links of a block's size would cost what they save.
    assert found["snapshots/1"].lstat().st_blocks == 0


def test_images_that_an_instance_uses_stay_when_the_golden_root_is_made_anew(
    tmp_path: Path, root: SharedImages
) -> None:
    (tmp_path / "instances/i-1").mkdir(parents=True)
    (tmp_path / "instances/i-1/boot.json").write_text(json.dumps({"images": str(root.path)}))
    tree = tmp_path / "golden/tree"
    tree.rename(tmp_path / "replaced")
    for name in (boot.CONTENT, boot.SNAPSHOTS):
        (tree / name).mkdir(parents=True)
    again = share_images(GoldenRoot(tmp_path / "golden", "pause:1"), tmp_path / "images", tmp_path / "instances")
    assert again.path != root.path and (root.path / boot.SNAPSHOTS / "1/fs/bin/sh").read_text() == "program"
    (tmp_path / "instances/i-1/boot.json").unlink()
    share_images(GoldenRoot(tmp_path / "golden", "pause:1"), tmp_path / "images", tmp_path / "instances")
    assert not root.path.exists() and again.path.exists()


def test_a_disk_that_is_full_while_a_root_is_made_is_a_cloud_error_and_leaves_nothing(
    root: SharedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", no_space)
    with pytest.raises(CloudError, match="No space left"):
        root.make_root(tmp_path / "one")
    assert not (tmp_path / "one").exists()


async def test_one_launch_that_finds_the_disk_full_does_not_spoil_the_batch(
    cloud: Any, config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = SharedImages.make_root
    calls = iter([True, False])

    def sometimes(self: SharedImages, target: Path) -> None:
        if next(calls):
            raise CloudError("local cloud: cannot copy the prepared images: No space left on device")
        make(self, target)

    monkeypatch.setattr(SharedImages, "make_root", sometimes)
    results = await launch_each(cloud, [request("a"), request("b")])
    assert sorted(type(result).__name__ for result in results) == ["CloudError", "Instance"]


async def test_a_control_group_that_cannot_be_delegated_fails_the_launch_and_ends_the_instance(
    cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: InstanceCgroup, memory_bytes: int) -> None:
        raise BadStartError("cannot delegate cgroup controllers")

    monkeypatch.setattr(InstanceCgroup, "create", refuse)
    (failed,) = await launch_each(cloud, [request("a")])
    assert isinstance(failed, CloudError) and "cannot delegate" in str(failed)
    await asyncio.gather(*cloud._ends.clean_ups.values())
    assert [found.state for found in await list_owned(cloud)] == [InstanceState.TERMINATED]


async def test_a_claim_that_cannot_be_written_gives_its_address_back(
    cloud: Any, config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", no_space)
    (failed,) = await launch_each(cloud, [request("a")])
    assert isinstance(failed, CloudError) and failed.retryable and "No space left" in str(failed)
    assert list(config.addresses_dir.iterdir()) == [] and list(config.instances_dir.iterdir()) == []
    monkeypatch.undo()
    stand_apart(monkeypatch)
    (instance,) = await launch_each(cloud, [request("a")])
    assert isinstance(instance, Instance)


async def test_a_full_disk_does_not_keep_an_instance_from_ending_and_its_end_makes_room(
    cloud: Any, config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance,) = await launch_each(cloud, [request("a")])
    directory = config.instances_dir / instance.instance_id
    replace = os.replace

    def full(*paths: Path) -> None:
        if (directory / "disk").exists():
            no_space()
        replace(*paths)

    monkeypatch.setattr(os, "replace", full)
    await cloud.terminate([instance.instance_id])
    await asyncio.gather(*cloud._ends.clean_ups.values())
    (found,) = await cloud.describe([instance.instance_id])
    assert found.state is InstanceState.TERMINATED and "terminated by request" in found.state_reason
    assert not (directory / "disk").exists() and list(config.addresses_dir.iterdir()) == []


async def test_an_instance_that_does_not_end_spoils_no_termination_but_its_own(
    cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = await launch_each(cloud, [request("a"), request("b")])
    mark = cloud._store.mark

    async def end(record: Any, reason: str) -> None:
        if record.instance_id == stuck.instance_id:
            raise CloudError(f"local cloud: {record.instance_id} does not end")
        mark(record, InstanceState.SHUTTING_DOWN, reason)

    monkeypatch.setattr(cloud._ends, "end", end)
    failed, done = await cloud.terminate([stuck.instance_id, other.instance_id])
    assert isinstance(failed, CloudError) and "does not end" in str(failed) and done is None
    (found,) = await cloud.describe([other.instance_id])
    assert found.state.is_terminating


async def test_a_metadata_service_that_died_is_started_by_the_next_listing(
    cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LocalCloudConfig] = []

    async def start(config: LocalCloudConfig) -> None:
        started.append(config)

    monkeypatch.setattr(services, "metadata_running", lambda config: False)
    monkeypatch.setattr(services, "ensure_metadata", start)
    assert await list_owned(cloud) == [] and len(started) == 1


async def test_the_limit_holds_for_launches_at_once_and_says_why(cloud: Any) -> None:
    cloud._claims.limit = InstanceLimit(2, "inotify is short")
    results = await launch_each(cloud, [request(f"t{number}") for number in range(8)])
    assert sum(isinstance(result, Instance) for result in results) == 2
    refused = next(result for result in results if not isinstance(result, Instance))
    assert isinstance(refused, CloudQuotaError) and "inotify is short" in str(refused)


async def test_locks_of_instances_that_nobody_works_on_are_let_go(cloud: Any) -> None:
    await cloud.terminate([f"i-{number:017}" for number in range(50)])
    assert len(cloud._locks) == 0


async def test_a_launcher_process_that_hangs_is_replaced_at_the_next_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Launcher):
        spawned = 0

        def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
            self.spawned += 1
            theirs.send(b'{"ready": true, "preload_error": ""}')
            return subprocess.Popen(["sleep", "60"], pass_fds=[theirs.fileno()])

        async def _reap(self) -> None:
            if self._process is not None:
                self._process.kill()
                await super()._reap()

    monkeypatch.setattr(launcher, "_LAUNCH_TIMEOUT_S", 0.0)
    hanging = Hanging({}, tmp_path / "log", preload=False)
    for spawned in (1, 2):
        with pytest.raises(CloudError, match="no first process"):
            await hanging.launch(tmp_path)
        assert hanging.spawned == spawned
    await hanging.close()


async def test_a_metadata_service_that_does_not_start_is_a_failed_call(
    cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(config: LocalCloudConfig) -> None:
        raise BadStartError("the metadata service does not start")

    monkeypatch.setattr(services, "metadata_running", lambda config: False)
    monkeypatch.setattr(services, "ensure_metadata", fail)
    with pytest.raises(CloudError, match="does not start"):
        await cloud.launch(request("a"))


async def test_the_metadata_service_is_started_once_when_two_launches_miss_it(
    config: LocalCloudConfig, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[bool] = []
    monkeypatch.setattr(services, "_is_current", lambda config: bool(running))
    monkeypatch.setattr(services, "metadata_running", lambda config: bool(running))
    monkeypatch.setattr(services, "_start", lambda config: running.append(True))
    await asyncio.gather(*(services.ensure_metadata(config) for _ in range(4)))
    assert running == [True]


def test_a_torn_record_is_none_and_one_of_a_newer_version_is_read(
    config: LocalCloudConfig, store: InstanceStore
) -> None:
    store.save(record("i-1", "10.9.0.16"))
    path = config.instances_dir / "i-1/instance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "spot_price": 1}))
    assert store.load("i-1") == record("i-1", "10.9.0.16")
    for text in ("", '{"instance_id": "i-1"}', "[]"):
        path.write_text(text)
        assert store.load("i-1") is None


def test_addresses_that_a_killed_process_took_for_nothing_come_back(
    config: LocalCloudConfig, store: InstanceStore
) -> None:
    """Killed after the first pair was taken; the launch was repeated and took another pair."""
    store.allocate_addresses("i-1")
    primary, _ = store.allocate_addresses("i-1")
    store.save(record("i-1", primary))
    store.drop_unclaimed(time.time() + 60)
    assert [path.name for path in config.addresses_dir.iterdir()] == [primary]
    assert store.load("i-1") is not None


def test_what_a_failed_write_has_begun_is_removed(
    config: LocalCloudConfig, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(record("i-1", "10.9.0.16"))
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="No space"):
        store.save(record("i-1", "10.9.0.18"))
    assert [path.name for path in store.directory("i-1").iterdir()] == ["instance.json"]
    assert store.load("i-1") == record("i-1", "10.9.0.16")


@pytest.mark.parametrize(
    ("inotify", "unified", "instances"), [(128, False, 100), (128, True, 33), (8192, False, 250), (4, True, 1)]
)
def test_an_instance_that_could_not_start_for_lack_of_inotify_is_over_the_limit(
    inotify: int, unified: bool, instances: int
) -> None:
    limit = compute_instance_limit(250, inotify, unified)
    assert limit.instances == instances
    assert ("fs.inotify.max_user_instances" in limit.reason) == (instances < 250)


class Commands:
    """Records `ip`; answers with one address of the host's interface, or none."""

    def __init__(self, addresses: list[dict[str, object]]) -> None:
        self.addresses = addresses
        self.ran: list[str] = []

    def __call__(self, argv: list[str], **_: object) -> str:
        self.ran.append(" ".join(argv))
        return json.dumps([{"addr_info": self.addresses}]) if "addr show" in self.ran[-1] else ""


def test_a_network_whose_making_was_interrupted_is_made_again(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip = Commands([])
    monkeypatch.setattr(network, "exists", lambda config: True)
    monkeypatch.setattr(network, "run_command", ip)
    network.ensure(config)
    assert "ip netns del vk-u" in ip.ran
    assert ip.ran[-1] == "ip addr add 10.9.0.1/24 dev vk-u"  # last, as it is what tells of a whole network


def test_a_network_that_is_there_is_left_as_it_is(config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    ip = Commands([{"local": "10.9.0.1", "prefixlen": 24}])
    monkeypatch.setattr(network, "exists", lambda config: True)
    monkeypatch.setattr(network, "run_command", ip)
    network.ensure(config)
    assert not [line for line in ip.ran if " add " in line or " del " in line]
    ip.addresses = [{"local": "10.7.0.1", "prefixlen": 24}]
    with pytest.raises(BadStartError, match="another subnet"):
        network.ensure(config)


@pytest.mark.parametrize("failing", ["-6 -j route", "-4 -j route", "-4 -j addr"])
def test_a_network_that_is_there_stays_when_the_machines_cannot_be_looked_at(
    config: LocalCloudConfig, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    ip = Commands([{"local": "10.9.0.1", "prefixlen": 24}])

    def run(argv: list[str], **options: object) -> str:
        if failing in (line := " ".join(argv)):
            raise CommandError(f"{line}: no end after 10 s")
        return ip(argv, **options)

    monkeypatch.setattr(network, "exists", lambda config: True)
    monkeypatch.setattr(network, "run_command", run)
    with pytest.raises(BadStartError, match="no end after 10 s"):
        network.ensure(replace(config, ipv6_subnet="fd00:9::/64"))
    assert not [line for line in ip.ran if " add " in line or " del " in line]


IMPORTER = """
import os, sys, time
from pathlib import Path
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.cloud.local.golden import run_containerd
work = Path(sys.argv[1])
with run_containerd(Containerd(str(work / "containerd"), "ctr", (1, 6, 20)), work / "root", work):
    print((work / "pid").read_text(), flush=True)
    time.sleep(60)
"""


@pytest.mark.real
def test_the_containerd_that_imports_images_dies_with_the_provider(tmp_path: Path) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid; touch {tmp_path}/c.sock; exec sleep 60\n")
    program.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as provider:
        assert provider.stdout is not None
        child = os.pidfd_open(int(provider.stdout.readline()))
        provider.kill()
    readable, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert readable
