"""Directories that the instances of one Node share, with hostile root in them."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_cloud.conftest import OWNER, request, take_down
from tests.integration.local_cloud.machine import inside, mounts, run, until
from tests.launching import launch_each
from vk_provider.cloud.base import TAG_NODE, Instance, LaunchRequest
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig

pytestmark = pytest.mark.real

PATH, OTHER = "/tmp/shared", "/srv/more"
SIZE = 32 * 2**20


@pytest.fixture
def config(config: LocalCloudConfig) -> LocalCloudConfig:
    return replace(config, shared_bytes=SIZE)


async def sharing(cloud: LocalCloud, token: str, node: str, *paths: str) -> LaunchRequest:
    plain = await request(cloud, token)
    return replace(plain, tags={**plain.tags, TAG_NODE: node}, shared_host_paths=paths)


async def launch(cloud: LocalCloud, *requests: LaunchRequest) -> list[str]:
    results = await launch_each(cloud, requests)
    ids = []
    for result in results:
        assert isinstance(result, Instance), result
        ids.append(result.instance_id)

    booted = "test -S /run/containerd/containerd.sock && echo yes"
    await until(lambda: all(inside(cloud, each, booted, check=False) == "yes" for each in ids))
    return ids


async def test_instances_of_one_node_share_what_they_name_and_no_others(cloud: LocalCloud) -> None:
    first, second, third, fourth = await launch(
        cloud,
        await sharing(cloud, "a", "n1", PATH),
        await sharing(cloud, "b", "n1", PATH, OTHER),
        await sharing(cloud, "c", "n2", PATH),
        await request(cloud, "d"),
    )
    assert inside(cloud, first, f"mkdir {PATH}/d; echo left > {PATH}/d/f; stat -c %a:%u {PATH}") == "755:0"
    assert inside(cloud, second, f"cat {PATH}/d/f; stat -c %u {PATH}/d/f") == "left\n0", "IDs are the instances' own"
    assert inside(cloud, second, f"ls {OTHER}") == ""
    assert inside(cloud, third, f"ls {PATH}") == ""
    assert inside(cloud, fourth, f"ls -d {PATH}", check=False) == ""
    await cloud.terminate([first])
    await until(lambda: not cloud._ends.clean_ups)
    assert inside(cloud, second, f"cat {PATH}/d/f") == "left"
    (later,) = await launch(cloud, await sharing(cloud, "e", "n1", PATH))
    assert inside(cloud, later, f"cat {PATH}/d/f") == "left", "what one pod leaves, the next one finds"


async def test_root_of_an_instance_gets_no_device_no_rights_and_no_other_place_through_it(cloud: LocalCloud) -> None:
    attacker, victim = await launch(cloud, await sharing(cloud, "a", "n1", PATH), await sharing(cloud, "b", "n1", PATH))
    device = os.stat(cloud.config.root).st_dev
    for attack in (
        f"mknod {PATH}/disk b {os.major(device)} {os.minor(device)}",
        f"mknod {PATH}/mem c 1 1",
        f"mount -o remount,bind,dev,suid {PATH}",
        f"mount -o remount,size=1g {PATH}",
        f"chattr +i {PATH}",
    ):
        said = inside(cloud, attacker, f"{attack} 2>&1 && echo DONE", check=False)
        assert not said.endswith("DONE"), attack
    inside(cloud, attacker, f"cp /usr/bin/id {PATH}/id; chmod 6755 {PATH}/id; ln -s /etc {PATH}/etc; ln -s / {PATH}/up")
    assert inside(cloud, victim, f"setpriv --reuid 1000 --regid 1000 --clear-groups {PATH}/id -u") == "1000"
    assert inside(cloud, victim, f"cat {PATH}/up/etc/hostname") == inside(cloud, victim, "cat /etc/hostname")
    assert inside(cloud, victim, f"findmnt -no OPTIONS {PATH}").split(",")[:3] == ["rw", "nosuid", "nodev"]
    # Up from a directory that is moved out from under a mount of its parent.
    inside(cloud, attacker, f"mkdir -p {PATH}/x/y {PATH}/z")
    script = f"mkdir /mnt/m; mount --bind {PATH}/x /mnt/m; cd /mnt/m/y; mv {PATH}/x/y {PATH}/z/y; ls ../../.. 2>&1"
    assert "image" not in inside(cloud, attacker, script, check=False)
    # On the machine nobody but root gets there, and the file that root of an instance made runs as nobody of ours.
    shared = cloud.config.shared_dir
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    assert run("setpriv", "--reuid", "1000", "--clear-groups", "ls", str(shared), check=False) == ""


async def test_a_mount_in_one_instance_is_not_in_another(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, await sharing(cloud, "a", "n1", PATH), await sharing(cloud, "b", "n1", PATH))
    inside(cloud, first, f"mkdir {PATH}/m; mount -t tmpfs none {PATH}/m; touch {PATH}/m/hidden")
    assert inside(cloud, second, f"ls {PATH}/m") == ""
    assert f"{cloud.config.shared_dir}" in mounts() and "hidden" not in mounts()


async def test_bytes_and_files_are_bounded_and_a_full_directory_hurts_its_node_alone(cloud: LocalCloud) -> None:
    filler, neighbour = await launch(
        cloud, await sharing(cloud, "a", "n1", PATH), await sharing(cloud, "b", "n2", PATH)
    )
    said = inside(cloud, filler, f"dd if=/dev/zero of={PATH}/big bs=1M count=100 2>&1", check=False)
    assert "No space left" in said
    image = next(cloud.config.shared_dir.glob("*/image"))
    assert image.stat().st_size == SIZE
    said = inside(cloud, filler, f"rm {PATH}/big; seq 1 100000 | sed 's|^|{PATH}/|' | xargs touch 2>&1 | tail -1")
    assert "No space left" in said
    inside(cloud, neighbour, f"echo room > {PATH}/f && touch /tmp/elsewhere")
    inside(cloud, filler, "touch /tmp/elsewhere")


async def test_down_takes_the_directories_away_and_what_they_hold_stays_within(config: LocalCloudConfig) -> None:
    cloud = LocalCloud(config, OWNER)
    await cloud.start()
    outside = Path(config.state_dir).parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    try:
        (first,) = await launch(cloud, await sharing(cloud, "a", "n1", PATH))
        inside(cloud, first, f"ln -s {outside} {PATH}/link; mkdir -p {PATH}/d/e; ln -s / {PATH}/d/root")
    finally:
        await cloud.close()
        await take_down(config)
    assert str(config.shared_dir) not in mounts()
    assert config.state_dir not in run("losetup", "--list", "--noheadings", "--output", "BACK-FILE", check=False)
    assert (outside / "kept").read_text() == "kept"


async def test_after_a_restart_of_the_machine_the_directory_is_mounted_again(config: LocalCloudConfig) -> None:
    cloud = LocalCloud(config, OWNER)
    await cloud.start()
    try:
        (first,) = await launch(cloud, await sharing(cloud, "a", "n1", PATH))
        inside(cloud, first, f"echo kept > {PATH}/f")
        await cloud.terminate([first])
        await until(lambda: not cloud._ends.clean_ups)
        mount = next(config.shared_dir.glob("*/mount"))
        run("umount", str(mount))
        second, third = await asyncio.gather(
            launch(cloud, await sharing(cloud, "b", "n1", PATH)), launch(cloud, await sharing(cloud, "c", "n1", PATH))
        )
        assert inside(cloud, second[0], f"cat {PATH}/f") == inside(cloud, third[0], f"cat {PATH}/f") == "kept"
        assert mounts().count(f" {mount} ") == 1
    finally:
        await cloud.close()
        await take_down(config)
