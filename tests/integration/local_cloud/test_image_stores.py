"""Prepared stores on real instances: taken over from one that pulled, seen by the next, changed by none."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.local_cloud.conftest import request
from tests.integration.local_cloud.machine import inside, until
from tests.integration.local_cloud.test_instance import booted
from tests.password_registry import Image, PasswordRegistry, make_image, make_index, make_layer
from vk_provider.cloud.base import Instance
from vk_provider.cloud.imagestores import (
    BuilderDiedError,
    CorruptImageError,
    PreparedStore,
    SourceLostError,
    StoreFullError,
    StoreRefusedError,
)
from vk_provider.cloud.local.boot import PREPARED
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.golden import work_path
from vk_provider.cloud.local.storesize import measure
from vk_provider.imagesets.imageset import ImageSet, PinnedImage

pytestmark = pytest.mark.real

LARGE = os.urandom(3 << 20)
"""It does not compress."""
MAX_BYTES = 1 << 30
OWN_BYTES = 20_000
"""That a store may add to what an instance's containerd has on the disk."""
CONTENT = "io.containerd.content.v1.content/blobs/sha256"


@pytest.fixture
async def registry(cloud: LocalCloud) -> AsyncIterator[PasswordRegistry]:
    found = PasswordRegistry()
    await found.start(cloud.config.host_ip)
    yield found
    await found.stop()


def make(text: bytes = b"one") -> Image:
    layers = [make_layer({"large": LARGE}), make_layer({"hello": text, "dir/.wh..wh..opq": b"", "dir/new": b"n"})]
    other = make_image([make_layer({"other": text})], architecture="s390x")
    return make_index({machine_architecture(): make_image(layers), "s390x": other})


async def start(cloud: LocalCloud, token: str, handle: str = "") -> Instance:
    answer = await cloud.launch(replace(await request(cloud, token), image_store=handle))
    (instance,) = answer.instances
    await booted(cloud, instance)
    return instance


async def pull(cloud: LocalCloud, instance: Instance, reference: str) -> None:
    """As CRI pulls: in its namespace."""
    script = f"ctr -n k8s.io images pull --plain-http {reference} >/dev/null"
    await asyncio.to_thread(inside, cloud, instance.instance_id, script)


async def pull_first(cloud: LocalCloud, registry: PasswordRegistry) -> tuple[Image, str, Instance]:
    """An image, its reference, and the instance that has pulled it."""
    image, reference = make(), f"{registry.host}/team/app:1"
    registry.push("team/app", "1", image)
    first = await start(cloud, "first")
    await pull(cloud, first, reference)
    return image, reference, first


def images_in(cloud: LocalCloud, instance: Instance) -> list[str]:
    return inside(cloud, instance.instance_id, "ctr -n k8s.io images ls -q").split()


async def prepare(cloud: LocalCloud, image: Image, reference: str, *sources: Instance) -> PreparedStore:
    images = ImageSet.of([PinnedImage(reference, image.digest)])
    return await cloud.image_stores.prepare(images, [source.instance_id for source in sources], MAX_BYTES)


async def test_a_new_instance_has_the_image_that_another_one_pulled_and_nothing_is_fetched_again(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference, first = await pull_first(cloud, registry)
    fetched = dict(registry.requests)
    store = await prepare(cloud, image, reference, first)
    assert 3 << 20 < store.size_bytes < 12 << 20
    second = await start(cloud, "second", store.handle)
    present = images_in(cloud, second)
    repository = f"{registry.host}/team/app"
    assert {reference, f"{repository}@{image.digest}", "vk-provider.internal/pause:1"} <= set(present)
    mount = (
        f"mkdir /tmp/m && ctr -n k8s.io images mount {reference} /tmp/m >/dev/null && "
        "cat /tmp/m/hello && echo && ls /tmp/m/dir && sha256sum /tmp/m/large | cut -c1-64"
    )
    assert inside(cloud, second.instance_id, mount).split() == ["one", "new", hashlib.sha256(LARGE).hexdigest()]
    assert dict(registry.requests) == fetched
    assert reference not in images_in(cloud, await start(cloud, "third"))


async def test_an_instance_cannot_change_what_the_store_holds(cloud: LocalCloud, registry: PasswordRegistry) -> None:
    image, reference, first = await pull_first(cloud, registry)
    store = await prepare(cloud, image, reference, first)
    second, third = [await start(cloud, name, store.handle) for name in ("second", "third")]
    layer = f"/var/lib/containerd/{CONTENT}"
    large = inside(cloud, second.instance_id, f"find {layer} -size +1M").split()
    assert len(large) == 1
    for change in (
        f"echo x > {large[0]}",
        f"rm -f {large[0]}",
        f"mount -o remount,rw,bind {PREPARED}; touch {PREPARED}/x",
        f"umount -l {PREPARED}; touch {PREPARED}/x",
        "find /var/lib/containerd -name large -exec touch {} +",
    ):
        inside(cloud, second.instance_id, change, check=False)
    digest = Path(large[0]).name
    stored = cloud.config.root / "stores" / store.handle / "tree" / CONTENT / digest
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest
    options = inside(cloud, third.instance_id, f"grep ' {PREPARED} ' /proc/self/mountinfo")
    assert "nodev" in options and " ro," in options
    # What it has changed is its own: another instance has what was prepared.
    assert inside(cloud, third.instance_id, f"sha256sum {large[0]}").split()[0] == digest


async def test_what_the_pod_put_in_the_place_of_content_is_never_followed_nor_taken(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference = make(), f"{registry.host}/team/app:1"
    registry.push("team/app", "1", image)
    liar = await start(cloud, "liar")
    await pull(cloud, liar, reference)
    content = f"/var/lib/containerd/{CONTENT}"
    (large,) = inside(cloud, liar.instance_id, f"find {content} -size +1M").split()
    replace_it = f"size=$(stat -c %s {large}); rm {large}; head -c $size /dev/urandom > {large}"
    inside(cloud, liar.instance_id, replace_it)
    with pytest.raises(CorruptImageError):
        await prepare(cloud, image, reference, liar)
    inside(cloud, liar.instance_id, f"rm {large}; ln -s /etc/shadow {large}")
    with pytest.raises(SourceLostError):
        await prepare(cloud, image, reference, liar)
    inside(cloud, liar.instance_id, f"rm {large}; mkfifo {large}")
    with pytest.raises(SourceLostError):
        await prepare(cloud, image, reference, liar)
    honest = await start(cloud, "honest")
    await pull(cloud, honest, reference)
    assert (await prepare(cloud, image, reference, liar, honest)).size_bytes > 0


async def test_content_comes_from_an_instance_that_has_it_and_never_from_the_store_of_another(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference = make(), f"{registry.host}/private/app:1"
    registry.push("private/app", "1", image)
    first = await start(cloud, "first")
    await pull(cloud, first, reference)
    await prepare(cloud, image, reference, first)
    stranger = await start(cloud, "stranger")
    with pytest.raises(SourceLostError):  # its registry may say that its own name stands for that digest
        await prepare(cloud, image, "registry.example/mine:1", stranger)


async def test_a_store_in_use_stays_until_its_last_instance_is_gone(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference, first = await pull_first(cloud, registry)
    store = await prepare(cloud, image, reference, first)
    second = await start(cloud, "second", store.handle)
    await cloud.image_stores.forget(store.handle)
    assert await cloud.image_stores.list_prepared() == []
    assert reference in images_in(cloud, second)
    assert reference not in images_in(cloud, await start(cloud, "third", store.handle))
    directory = cloud.config.root / "stores" / store.handle
    assert directory.exists()
    await cloud.terminate([second.instance_id])
    await until(lambda: not directory.exists())


async def test_a_set_larger_than_allowed_leaves_nothing(cloud: LocalCloud, registry: PasswordRegistry) -> None:
    image, reference, first = await pull_first(cloud, registry)
    images = ImageSet.of([PinnedImage(reference, image.digest)])
    for limit in (1 << 20, 4 << 20):  # of what is fetched, and of what it takes unpacked
        with pytest.raises(StoreFullError):
            await cloud.image_stores.prepare(images, [first.instance_id], limit)
    assert list((cloud.config.root / "stores").iterdir()) == []
    full = cloud.image_stores
    full._reserve_bytes = 1 << 60
    with pytest.raises(StoreFullError, match="disk"):
        await full.prepare(images, [first.instance_id], MAX_BYTES)
    assert list((cloud.config.root / "stores").iterdir()) == []


def plant(cloud: LocalCloud, instance: Instance, image: Image) -> None:
    """Content on the instance's disk that its runtime would not unpack."""
    directory = cloud.config.instances_dir / instance.instance_id / "disk" / "containerd" / CONTENT
    directory.mkdir(parents=True, exist_ok=True)
    for digest, (_, content) in image.parts.items():
        (directory / digest.removeprefix("sha256:")).write_bytes(content)


def with_device() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("disk")
        entry.type, entry.mode, entry.devmajor, entry.devminor = tarfile.BLKTYPE, 0o666, 8, 0
        tar.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize("layer", [b"no tar at all" * 100, with_device()], ids=["garbage", "device"])
async def test_layers_that_cannot_be_unpacked_are_refused_and_what_was_prepared_before_stays(
    cloud: LocalCloud, registry: PasswordRegistry, layer: bytes
) -> None:
    good, reference = make(), f"{registry.host}/team/app:1"
    registry.push("team/app", "1", good)
    first = await start(cloud, "first")
    await pull(cloud, first, reference)
    store = await prepare(cloud, good, reference, first)
    bad = make_image([layer], architecture=machine_architecture())
    plant(cloud, first, bad)
    with pytest.raises(StoreRefusedError):
        await prepare(cloud, bad, f"{registry.host}/team/bad:1", first)
    assert [path.name for path in (cloud.config.root / "stores").iterdir()] == [store.handle]
    assert reference in images_in(cloud, await start(cloud, "second", store.handle))


def builders(cloud: LocalCloud) -> list[int]:
    """Processes of a builder of this cloud, its containerd among them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode()
            if (
                str(cloud.config.stores_dir) in command
                or str(work_path(cloud.config.stores_dir / ".building")) in command
            ):
                found.append(int(entry.name))
    return found


async def test_a_builder_that_is_killed_leaves_nothing_and_the_next_one_succeeds(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference, first = await pull_first(cloud, registry)
    task = asyncio.create_task(prepare(cloud, image, reference, first))
    await until(lambda: len(builders(cloud)) >= 2, 60)  # it, and its containerd
    os.kill(min(builders(cloud)), signal.SIGKILL)
    with pytest.raises(BuilderDiedError):
        await task
    await until(lambda: not builders(cloud))
    assert list(cloud.config.stores_dir.iterdir()) == []
    assert not work_path(cloud.config.stores_dir / ".building").exists()
    task = asyncio.create_task(prepare(cloud, image, reference, first))
    await until(lambda: builders(cloud), 60)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await until(lambda: not builders(cloud))
    assert (await prepare(cloud, image, reference, first)).size_bytes > 0


@pytest.mark.parametrize("is_awaited", [False, True])
async def test_a_builder_steps_back_but_for_pods_that_wait_for_it(
    cloud: LocalCloud, registry: PasswordRegistry, is_awaited: bool
) -> None:
    image, reference, first = await pull_first(cloud, registry)
    images = ImageSet.of([PinnedImage(reference, image.digest)])
    own = os.getpriority(os.PRIO_PROCESS, 0)
    task = asyncio.create_task(
        cloud.image_stores.prepare(images, [first.instance_id], MAX_BYTES, is_awaited=is_awaited)
    )
    await until(lambda: len(builders(cloud)) >= 2, 60)  # it, and its containerd
    assert os.getpriority(os.PRIO_PROCESS, min(builders(cloud))) == (own if is_awaited else 19)
    assert (await task).images == images


async def test_an_instance_that_starts_from_a_store_takes_no_room_for_its_images(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, reference, first = await pull_first(cloud, registry)
    store = await prepare(cloud, image, reference, first)
    without, *with_it = [await start(cloud, f"more-{number}", store.handle if number else "") for number in range(4)]

    def own_bytes(instance: Instance) -> int:
        root = cloud.config.instances_dir / instance.instance_id / "disk" / "containerd"
        return measure(root, cloud.config.stores_dir)

    for instance in with_it:
        assert own_bytes(instance) - own_bytes(without) < OWN_BYTES, (own_bytes(instance), own_bytes(without))


async def test_a_set_with_another_image_shares_the_layers_of_the_store_that_has_the_first(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, other = make(), make_image([make_layer({"other": b"o"})], architecture=machine_architecture())
    references = f"{registry.host}/team/app:1", f"{registry.host}/team/other:1"
    registry.push("team/app", "1", image)
    registry.push("team/other", "1", other)
    first = await start(cloud, "first")
    for reference in references:
        await pull(cloud, first, reference)
    store = await prepare(cloud, image, references[0], first)
    pinned = [PinnedImage(references[0], image.digest), PinnedImage(references[1], other.digest)]
    both = await cloud.image_stores.prepare(ImageSet.of(pinned), [first.instance_id], MAX_BYTES)
    files = [path for path in cloud.config.stores_dir.glob("*/tree/*/snapshots/*/fs/large")]
    assert len(files) == 2 and files[0].samefile(files[1])
    second = await start(cloud, "second", both.handle)
    assert set(references) <= set(images_in(cloud, second))
    await cloud.image_stores.forget(store.handle)
    third = await start(cloud, "third", both.handle)
    look = f"mkdir /tmp/m && ctr -n k8s.io images mount {references[0]} /tmp/m >/dev/null && sha256sum /tmp/m/large"
    assert inside(cloud, third.instance_id, look).split()[0] == hashlib.sha256(LARGE).hexdigest()


async def test_stores_outlive_the_provider_and_share_content_with_each_other(
    cloud: LocalCloud, registry: PasswordRegistry
) -> None:
    image, moved = make(b"one"), make(b"two")
    reference = f"{registry.host}/team/app:1"
    registry.push("team/app", "1", image)
    first = await start(cloud, "first")
    await pull(cloud, first, reference)
    store = await prepare(cloud, image, reference, first)
    registry.push("team/app", "1", moved)
    second = await start(cloud, "second", store.handle)
    registry.requests.clear()
    await pull(cloud, second, reference)
    assert registry.requests["GET blobs"] == 2  # the layer and the configuration that changed
    newer = await prepare(cloud, moved, reference, second)
    later = LocalCloud(cloud.config, "later")
    await later.start()
    try:
        assert {each.handle for each in await later.image_stores.list_prepared()} == {store.handle, newer.handle}
    finally:
        await later.close()
    large = [path for path in (cloud.config.root / "stores").glob(f"*/tree/{CONTENT}/*") if path.stat().st_size > 1e6]
    assert len(large) == 2 and large[0].samefile(large[1])
    document = json.loads((cloud.config.root / "stores" / newer.handle / "store.json").read_text())
    assert document["images"] == [[reference, moved.digest]]
