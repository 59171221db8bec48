"""A prepared store from a builder to an instance: real block devices (loop devices of sparse files), file systems,
mounts in a namespace of their own, and containerd 2 with a registry on loopback."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import containerd2
from tests.integration.agent.test_instance_store import Machine, machine
from tests.password_registry import Image, PasswordRegistry, make_image, make_index, make_layer
from vk_provider.agent.image_builder import answer, run, run_containerd
from vk_provider.agent.instance_store import read_failure
from vk_provider.cloud.aws.stores.volume import StoreVolume, add_image_store
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.imagebuild import (
    BuildAnswer,
    BuildOrder,
    OrderedImage,
    RegistryHost,
    find_answer,
    find_uuid,
)

__all__ = ["machine"]

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).parents[3] / "manifests" / "aws" / "image-store.sh"
NONCE = "0123456789abcdef"
LARGE = os.urandom(2 << 20)
LINK = "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef"
PLAIN = BootData("CA", "00ff").to_user_data()
WITH_STORE = add_image_store(PLAIN, StoreVolume("snap-1", NONCE, 4))


@dataclass
class Site:
    """A registry with the machine image's own image and a pod's, and the machine image's containerd root."""

    registry: PasswordRegistry
    image: Image
    base: Path
    work: Path

    @property
    def own(self) -> str:
        return f"{self.registry.host}/own:1"

    @property
    def reference(self) -> str:
        return f"{self.registry.host}/team/app:1"

    @property
    def order(self) -> BuildOrder:
        return BuildOrder(
            nonce=NONCE,
            images=[OrderedImage(self.reference, self.image.digest)],
            registries={self.registry.host: RegistryHost(self.registry.host, True)},
            max_bytes=1 << 30,
            limit_s=600,
        )

    async def build(self, device: str, order: BuildOrder | None = None) -> BuildAnswer:
        return await asyncio.to_thread(answer, order or self.order, Path(device), self.base, self.work / "build")


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("PATH", containerd2.search_path(containerd2.ensure()))
    registry = PasswordRegistry()
    await registry.start()
    layers = [make_layer({"large": LARGE}), make_layer({"hello": b"one", "dir/.wh..wh..opq": b"", "dir/new": b"n"})]
    image = make_index({machine_architecture(): make_image(layers), "s390x": make_image([make_layer({"x": b"x"})])})
    registry.push("team/app", "1", image)
    registry.push("own", "1", make_image([make_layer({"own": b"own"})]))
    work = tmp_path / "work"
    work.mkdir()
    made = Site(registry, image, tmp_path / "base", work)

    def pull_own() -> None:
        with run_containerd(made.base, work) as address:
            run("ctr", "--address", address, "-n", "k8s.io", "images", "pull", "--plain-http", made.own)

    await asyncio.to_thread(pull_own)
    yield made
    await registry.stop()


def in_containerd(machine: Machine, script: str) -> str:
    """A script for Machine.boot that starts containerd on the instance's root, and runs `script` with `$ctr`."""
    config = machine.root / "containerd.toml"
    work = machine.root.parent / "c"
    config.write_text(
        f'version = 2\nroot = "{machine.root}/var/lib/containerd"\nstate = "{work}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", '
        '"io.containerd.cri.v1.runtime"]\n'
        f'[grpc]\n  address = "{work}/s"\n[ttrpc]\n  address = "{work}/t"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{work}/opt"\n'
    )
    return (
        f"mkdir -p {work}; containerd --config {config} >> {work}/log 2>&1 & pid=$!; "
        f"for n in {{1..200}}; do [[ -S {work}/s ]] && break; sleep 0.05; done; "
        f"ctr='ctr --address {work}/s -n k8s.io'; {script}; kill $pid; wait $pid 2> /dev/null; true"
    )


@pytest.fixture
def instance(machine: Machine, site: Site) -> Machine:
    """It has what the machine image has, and knows its store."""
    machine.script, machine.state_name = SCRIPT, "image-store"
    root = machine.root / "var/lib/containerd"
    subprocess.run(["rm", "-rf", str(root)], check=True)
    subprocess.run(["cp", "-a", str(site.base), str(root)], check=True)
    machine.user_data = WITH_STORE
    return machine


async def boot(machine: Machine, then: str = "", reboot: bool = False) -> list[str]:
    return (await asyncio.to_thread(machine.boot, then, reboot)).splitlines()


SHOW = (
    "$ctr images ls -q; mkdir -p m; $ctr images mount {0} m > /dev/null && cat m/hello && echo && ls m/dir && "
    "sha256sum m/large; $ctr images unmount m > /dev/null"
)


async def test_an_instance_starts_with_what_a_builder_has_made_and_asks_no_registry(
    site: Site, instance: Machine
) -> None:
    device = instance.add_disk(LINK)
    made = await site.build(device)
    assert made.cause is None and len(LARGE) < made.size_bytes < 4 * len(LARGE), made
    before = dict(site.registry.requests)
    said = await boot(instance, in_containerd(instance, SHOW.format(site.reference)))
    assert instance.code == 0 and instance.state == f"used: {find_uuid(NONCE)}", (said, instance.errors)
    names = f"{site.reference} {site.registry.host}/team/app@{site.image.digest} {site.own}".split()
    assert set(names) <= set(said), "as CRI names images, and what the machine image has"
    assert "one" in said and "new" in said and any(len(line.split()[0]) == 64 for line in said if line.split())
    assert dict(site.registry.requests) == before


async def test_what_an_instance_pulls_and_removes_is_its_own_and_stays_over_a_reboot(
    site: Site, instance: Machine
) -> None:
    await site.build(instance.add_disk(LINK))
    site.registry.push("more", "1", make_image([make_layer({"more": b"more"})]))
    more = f"{site.registry.host}/more:1"
    script = f"$ctr images pull --plain-http {more} > /dev/null && $ctr images rm --sync {site.own} > /dev/null"
    await boot(instance, in_containerd(instance, script))
    assert instance.code == 0, instance.errors
    said = await boot(instance, in_containerd(instance, SHOW.format(site.reference)), reboot=True)
    assert instance.state.startswith("used") and more in said and site.own not in said and "one" in said


async def test_a_store_that_cannot_be_used_costs_nothing_that_the_machine_image_has(
    site: Site, instance: Machine
) -> None:
    instance.add_disk(LINK)  # blank: not the store that the user data name
    said = await boot(instance, in_containerd(instance, "$ctr images ls -q"))
    assert instance.code == 1 and read_failure(instance.root / "run/vk-agent/image-store")
    assert site.own in said and site.reference not in said
    device = instance.loops[0]
    await site.build(device)
    run("e2fsck", "-f", "-p", device)  # tune2fs wants it of a file system that was mounted since
    run("tune2fs", "-U", find_uuid(NONCE), device)
    mount = instance.root.parent / "broken"
    mount.mkdir()
    run("mount", device, str(mount))
    for path in (mount / "store").glob("*/*.db"):
        path.unlink()
    run("umount", str(mount))
    said = await boot(instance, in_containerd(instance, "$ctr images ls -q"), reboot=True)
    assert instance.code == 1 and instance.state == f"failed: cannot read the store on {device}"
    assert site.own in said and site.reference not in said


@pytest.mark.parametrize("half", [".old-part", ".old"])
async def test_a_boot_that_was_cut_off_is_taken_up_again(site: Site, instance: Machine, half: str) -> None:
    await site.build(instance.add_disk(LINK))
    root = instance.root / "var/lib/containerd"
    (root / half).mkdir()
    entries = sorted(root.glob("[!.]*"))
    for path in entries if half == ".old" else entries[:1]:
        path.rename(root / half / path.name)
    if half == ".old":
        (root / entries[0].name).mkdir()  # of the store, whose links are not all there
    (root / ".part").mkdir()
    said = await boot(instance, in_containerd(instance, SHOW.format(site.reference)))
    assert instance.code == 0 and "one" in said and site.own in said, instance.errors
    assert {path.name for path in root.glob(".*")} == {".image-store", ".content"}


@pytest.mark.parametrize(
    ("volumes", "user_data", "state"),
    [
        (0, None, "unused: there is no volume"),
        (1, PLAIN, "unused: it is not asked for"),
        (1, '{"kind":"ImageBuild"}', "unused: this is a builder"),
    ],
)
async def test_without_an_order_to_use_a_store_nothing_is_touched(
    site: Site, instance: Machine, volumes: int, user_data: str | None, state: str
) -> None:
    for _ in range(volumes):
        instance.add_disk(LINK)
    instance.user_data = user_data
    await boot(instance)
    assert instance.code == 0 and instance.state == state
    order = instance.root / "run/vk-agent/image-order"
    assert order.exists() == (state == "unused: this is a builder")


async def test_a_builder_says_why_there_is_no_store(site: Site, instance: Machine) -> None:
    device = instance.add_disk(LINK)
    absent = replace_images(site.order, OrderedImage(f"{site.registry.host}/gone:1", "sha256:" + "1" * 64))
    assert (await site.build(device, absent)).cause == "refused"
    site.registry.users = {"me": "password"}
    assert (await site.build(device)).cause == "refused"
    site.registry.users = {}
    nowhere = OrderedImage("127.0.0.1:1/app:1", "sha256:" + "1" * 64)
    assert (await site.build(device, replace_images(site.order, nowhere))).cause == "failed"
    site.registry.push("huge", "1", huge := make_image([make_layer({"huge": os.urandom(80 << 20)})]))
    too_large = replace_images(site.order, OrderedImage(f"{site.registry.host}/huge:1", huge.digest))
    assert (await site.build(device, too_large)).cause == "full", "the volume has 64 MiB"
    assert (await site.build("/dev/null")).cause == "failed"
    assert not is_mounted(device)
    assert (await site.build(device)).cause is None


def is_mounted(device: str) -> bool:
    return device in Path("/proc/mounts").read_text()


def replace_images(order: BuildOrder, *images: OrderedImage) -> BuildOrder:
    return BuildOrder(
        nonce=order.nonce,
        images=list(images),
        registries=order.registries,
        max_bytes=order.max_bytes,
        limit_s=order.limit_s,
    )


async def test_the_program_writes_its_answer_on_the_console(site: Site, instance: Machine, tmp_path: Path) -> None:
    device, console, path = instance.add_disk(LINK), tmp_path / "console", tmp_path / "order"
    console.touch()
    path.write_text(site.order.to_user_data())
    command = [sys.executable, "-m", "vk_provider.agent.image_builder", path, "--stay", "--console", console]
    command += ["--device", device, "--base", site.base, "--work", tmp_path / "w"]
    process = await asyncio.create_subprocess_exec(*map(str, command))
    assert await process.wait() == 0
    found = find_answer(console.read_text(), NONCE)
    assert found is not None and found.cause is None and found.size_bytes > len(LARGE)
