"""What a builder makes of layers that an instance's runtime did not fetch, because it had them unpacked already, for an
image that has them packed in another way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.local_cloud.machine import run
from tests.password_registry import Image, make_image, make_index, make_layer
from vk_provider.cloud.local import builder as builder_module
from vk_provider.cloud.local.archive import write_archive
from vk_provider.cloud.local.blobserver import serve
from vk_provider.cloud.local.builder import BuildOrder, build
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.containerd import find_containerd
from vk_provider.cloud.local.golden import ensure_golden, run_containerd, work_directory
from vk_provider.cloud.local.takeover import CONTENT, Collection, MissingBlobError, Sources, collect

pytestmark = pytest.mark.real

LAYERS = [make_layer({"base": b"b" * 5000}), make_layer({"more": b"m"})]


def make(name: bytes, *, zstd: bool) -> Image:
    return make_image([*LAYERS, make_layer({"who": name})], architecture=machine_architecture(), zstd=zstd)


def write_disk(directory: Path, *images: Image) -> Path:
    """Content as containerd keeps it after it has pulled these images in this order: of layers that it has unpacked it
    does not fetch others with the same content."""
    content = directory.joinpath(*CONTENT)
    content.mkdir(parents=True)
    for number, image in enumerate(images):
        layers = [digest for digest, (kind, _) in image.parts.items() if "layer" in kind]
        skipped = layers[: len(LAYERS)] if number else []
        for digest, (_, part) in image.parts.items():
            if digest not in skipped:
                (content / digest.removeprefix("sha256:")).write_bytes(part)
    return directory


@dataclass(frozen=True)
class Builder:
    directory: Path
    base: Path

    def build(self, disk: Path, images: Mapping[str, Image]) -> Path:
        found, target = find_containerd(), self.directory / "target"
        order = BuildOrder(
            containerd_path=found.path,
            ctr_path=found.ctr_path,
            version=found.version,
            base=str(self.base),
            plain=str(self.base),
            target=str(target),
            images=tuple((reference, image.digest) for reference, image in images.items()),
            stores=(),
            disks=(str(disk),),
            others=(),
            max_bytes=1 << 30,
            reserve_bytes=0,
        )
        build(order)
        return target

    def look(self, store: Path) -> dict[str, tuple[str, str]]:
        """By the name of an image: how many of its parts there are, and whether it is unpacked."""
        fields = [line.split() for line in self.ask(store, "images", "check").splitlines()[1:]]
        return {each[0]: (each[4].strip("()"), each[-1]) for each in fields}

    def ask(self, store: Path, *arguments: str) -> str:
        """The answer of a containerd that has the store."""
        found = find_containerd()
        shutil.copytree(store / "db", store / "tree", dirs_exist_ok=True)
        with work_directory(store) as work, run_containerd(found, store / "tree", work) as address:
            return run(found.ctr_path, "--address", address, "-n", "k8s.io", *arguments)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, ensure_golden(find_containerd(), tmp_path / "golden", []).path)


def test_layers_that_another_image_of_the_set_brings_are_had_once_and_in_its_compression(builder: Builder) -> None:
    images = {"host/team/a:1": make(b"main", zstd=False), "host/team/b:1": make(b"init", zstd=True)}
    disk = write_disk(builder.directory / "disk", images["host/team/b:1"], images["host/team/a:1"])
    store = builder.build(disk, images)
    assert sorted(path.read_bytes() for path in store.glob("tree/*/snapshots/*/fs/who")) == [b"init", b"main"]
    assert len(list(store.glob("tree/*/snapshots/*/fs/base"))) == 1
    assert not list(store.glob("blobs")) and not list(store.glob("**/*.tar"))
    found = builder.look(store)
    for reference, parts in (("host/team/a:1", "2/4"), ("host/team/b:1", "4/4")):
        names = [reference, f"{reference[:-2]}@{images[reference].digest}"]
        assert [found[name] for name in names] == [(parts, "true")] * 2


def test_layers_that_the_base_has_unpacked_are_not_needed_again(builder: Builder, tmp_path: Path) -> None:
    there, image = make(b"base", zstd=False), make(b"main", zstd=True)
    (tmp_path / "blobs").mkdir()
    whole = collect([there.digest], Sources([], [write_disk(tmp_path / "whole", there)]), tmp_path / "blobs", 1 << 20)
    write_archive(tmp_path / "base.tar", "host/base:1", there.digest, whole)
    base = ensure_golden(find_containerd(), tmp_path / "golden", [str(tmp_path / "base.tar")]).path
    store = Builder(tmp_path, base).build(write_disk(tmp_path / "disk", there, image), {"host/team/a:1": image})
    assert Builder(tmp_path, base).look(store)["host/team/a:1"] == ("2/4", "true")


def test_a_layer_that_nothing_has_unpacked_is_named_with_its_image(builder: Builder) -> None:
    image, other = make(b"main", zstd=True), make(b"init", zstd=False)
    disk = write_disk(builder.directory / "disk", other, image)
    layer = next(digest for digest, (kind, _) in image.parts.items() if "layer" in kind)
    with pytest.raises(MissingBlobError, match=f"{layer} of host/team/a:1"):
        builder.build(disk, {"host/team/a:1": image})


def content_of(store: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (store / "tree").joinpath(*CONTENT).iterdir()}


def test_content_that_was_checked_is_taken_without_a_registry(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def without_layers(collection: Collection, names: Mapping[tuple[str, str], str]) -> Iterator[str]:
        manifests = {digits: kind for digits, kind in collection.media_types.items() if "manifest" in kind}
        with serve(replace(collection, media_types=manifests), names) as url:
            yield url

    monkeypatch.setattr(builder_module, "serve", without_layers)
    image, before = make(b"main", zstd=False), content_of(builder.base)
    store = builder.build(write_disk(builder.directory / "disk", image), {"host/team/a:1": image})
    assert content_of(store) == before | set(image.parts)
    assert not [path for path in store.rglob("*.db") if path.is_symlink()]
    config = next(digest for digest, (kind, _) in image.parts.items() if "config" in kind)
    names = {"host/team/a:1", f"host/team/a@{image.digest}", config}
    found = builder.look(store)
    assert {name: found[name] for name in names} == dict.fromkeys(names, ("4/4", "true"))
    labelled = builder.ask(store, "images", "list", 'labels."io.cri-containerd.image"==managed').splitlines()[1:]
    assert {line.split()[0] for line in labelled} == names


def test_manifests_of_other_platforms_that_an_instance_has_put_there_bring_nothing_into_the_store(
    builder: Builder,
) -> None:
    image, other = make(b"main", zstd=False), make_image([make_layer({"x": b"x" * 5000})], architecture="s390x")
    index = make_index({machine_architecture(): image, "s390x": other})
    before = content_of(builder.base)
    store = builder.build(write_disk(builder.directory / "disk", index), {"host/team/a:1": index})
    layer = next(digest for digest, (kind, _) in other.parts.items() if "layer" in kind)
    assert set(image.parts) | {index.digest} <= content_of(store) - before
    assert layer not in content_of(store)
