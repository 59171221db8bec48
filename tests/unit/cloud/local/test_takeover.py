"""What is taken over from an instance's disk, whatever its root has put there, and what a builder says."""

from __future__ import annotations

import io
import json
import os
import tarfile
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.password_registry import Image, digest_of, make_image, make_index, make_layer
from vk_provider.cloud.imagestores import BuilderDiedError, ImageStoreError, StoreFullError, StoreRefusedError
from vk_provider.cloud.local.archive import write_archive
from vk_provider.cloud.local.blobserver import serve
from vk_provider.cloud.local.builder import EXIT_FULL, BuildOrder
from vk_provider.cloud.local.prepared import read_answer
from vk_provider.cloud.local.takeover import (
    CONTENT,
    MAX_MANIFEST_BYTES,
    Collection,
    CorruptBlobError,
    Lacking,
    MissingBlobError,
    Sources,
    TooLargeError,
    UnreadableImageError,
    collect,
    open_beneath,
)

IMAGE = make_image([make_layer({"a": b"1" * 1000}), make_layer({"b": b"2"})])
LIMIT = 1 << 20


def put(root: Path, image: Image, without: str = "") -> Path:
    """Content as containerd keeps it."""
    directory = root.joinpath(*CONTENT)
    directory.mkdir(parents=True, exist_ok=True)
    for digest, (_, content) in image.parts.items():
        if digest != without:
            (directory / digest.removeprefix("sha256:")).write_bytes(content)
    return root


def blob(root: Path, digest: str) -> Path:
    return root.joinpath(*CONTENT, digest.removeprefix("sha256:"))


def config_of(image: Image) -> str:
    (found,) = [digest for digest, (kind, _) in image.parts.items() if "config" in kind]
    return found


def inner_of(index: Image) -> str:
    """The manifest of an index of one."""
    (found,) = [digest for digest, (kind, _) in index.parts.items() if kind.endswith("manifest.v1+json")]
    return found


def layer_of(image: Image) -> str:
    return max(image.parts, key=lambda digest: len(image.parts[digest][1]) if "layer" in image.parts[digest][0] else 0)


def take(image: Image, tmp_path: Path, *disks: Path, stores: tuple[Path, ...] = (), limit: int = LIMIT) -> Collection:
    return collect([image.digest], Sources(stores, disks), tmp_path / "target", limit)


def test_an_image_is_taken_whole_and_nothing_else_of_the_disk(tmp_path: Path) -> None:
    disk = put(tmp_path / "disk", IMAGE)
    blob(disk, digest_of(b"other")).write_bytes(b"other")
    found = take(IMAGE, tmp_path, disk)
    assert set(found.media_types) == {digest.removeprefix("sha256:") for digest in IMAGE.parts}
    assert {path.name for path in found.directory.iterdir()} == set(found.media_types)
    assert found.size_bytes == sum(len(content) for _, content in IMAGE.parts.values())


def test_of_an_index_the_platforms_that_were_fetched_are_taken(tmp_path: Path) -> None:
    other = make_image([make_layer({"o": b"o"})], architecture="s390x")
    index = make_index({"amd64": IMAGE, "s390x": other})
    disk = put(tmp_path / "disk", IMAGE)
    blob(disk, index.digest).write_bytes(index.parts[index.digest][1])
    found = take(index, tmp_path, disk)
    assert other.digest.removeprefix("sha256:") not in found.media_types
    assert set(found.media_types) == {digest.removeprefix("sha256:") for digest in (*IMAGE.parts, index.digest)}
    blob(disk, IMAGE.digest).unlink()
    with pytest.raises(MissingBlobError):
        collect([index.digest], Sources([], [disk]), tmp_path / "again", LIMIT)


def test_content_that_is_not_of_its_digest_is_refused_unless_another_instance_has_it(tmp_path: Path) -> None:
    liar, honest = put(tmp_path / "liar", IMAGE), put(tmp_path / "honest", IMAGE)
    path = blob(liar, layer_of(IMAGE))
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(CorruptBlobError):
        take(IMAGE, tmp_path, liar)
    assert not blob(tmp_path / "target", layer_of(IMAGE)).exists()
    assert take(IMAGE, tmp_path, liar, honest).size_bytes


def replace_by(path: Path, kind: str) -> None:
    secret = path.parents[3] / "secret"
    secret.write_bytes(path.read_bytes())
    path.unlink()
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "longer":
        path.write_bytes(secret.read_bytes() + b"x")
    elif kind == "mount point":
        path.touch()


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "longer", "mount point", "nothing"])
def test_what_is_no_file_of_the_announced_size_is_not_there(tmp_path: Path, kind: str) -> None:
    disk = put(tmp_path / "disk", IMAGE)
    replace_by(blob(disk, config_of(IMAGE)), kind)
    with pytest.raises(MissingBlobError):
        take(IMAGE, tmp_path, disk)
    put(disk := tmp_path / "other", IMAGE)
    replace_by(blob(disk, layer_of(IMAGE)), kind)
    found = collect([IMAGE.digest], Sources([], [disk]), tmp_path / "again", LIMIT)
    assert [each.digest for each in found.find_lacking(IMAGE.digest)] == [layer_of(IMAGE)]
    assert layer_of(IMAGE).removeprefix("sha256:") not in found.media_types


def test_a_layer_that_the_runtime_had_unpacked_for_another_image_is_told_by_its_snapshot(tmp_path: Path) -> None:
    """As containerd does with the same layers in another compression: it does not fetch them."""
    layers = [make_layer({"a": b"1"}), make_layer({"b": b"2"}), make_layer({"c": b"3"})]
    gzip, zstd = make_image(layers[:2]), make_index({"amd64": make_image(layers, zstd=True)})
    disk = put(tmp_path / "disk", gzip)
    manifest = json.loads(zstd.parts[inner_of(zstd)][1])
    own = manifest["layers"][2]["digest"]
    skipped = [each["digest"] for each in manifest["layers"][:2]]
    put(disk, Image(zstd.digest, {digest: part for digest, part in zstd.parts.items() if digest not in skipped}))
    found = collect([gzip.digest, zstd.digest], Sources([], [disk]), tmp_path / "target", LIMIT)
    first, second = digest_of(layers[0]), digest_of(layers[1])
    assert found.find_lacking(zstd.digest) == [Lacking(skipped[0], digest_of(f"{first} {second}".encode()))]
    assert found.find_lacking(gzip.digest) == []
    write_archive(tmp_path / "image.tar", "host/name:1", zstd.digest, found)
    with tarfile.open(tmp_path / "image.tar") as tar:
        names = set(tar.getnames())
        (entry,) = json.load(tar.extractfile("index.json") or io.BytesIO())["manifests"]
    assert (entry["digest"], entry["annotations"]) == (zstd.digest, {"io.containerd.image.name": "host/name:1"})
    parts = {zstd.digest, inner_of(zstd), manifest["config"]["digest"], own}
    assert names == {"oci-layout", "index.json", *(f"blobs/{digest.replace(':', '/')}" for digest in parts)}


@pytest.mark.parametrize("rootfs", [None, [], {}, {"diff_ids": "x"}, {"diff_ids": []}, {"diff_ids": [7, 8]}])
def test_a_layer_is_missing_where_the_configuration_does_not_name_it(tmp_path: Path, rootfs: object) -> None:
    config = json.dumps({"rootfs": rootfs}).encode()
    layer = {"digest": f"sha256:{0:064x}", "size": 7}
    manifest = json.dumps({"config": {"digest": digest_of(config), "size": len(config)}, "layers": [layer]}).encode()
    image = Image(digest_of(manifest), {digest_of(part): ("", part) for part in (config, manifest)})
    with pytest.raises(MissingBlobError, match="0000"):
        take(image, tmp_path, put(tmp_path / "disk", image))


def test_no_directory_on_the_way_is_a_link(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", IMAGE)
    disk = tmp_path / "disk"
    (disk / CONTENT[0]).mkdir(parents=True)
    (disk / CONTENT[0] / CONTENT[1]).symlink_to(elsewhere / CONTENT[0] / CONTENT[1])
    with pytest.raises(MissingBlobError):
        take(IMAGE, tmp_path, disk)
    with open_beneath(elsewhere, (*CONTENT, IMAGE.digest.removeprefix("sha256:"))) as file:
        assert file is not None
    with open_beneath(elsewhere, (*CONTENT, "..", "..", "..", "..", "disk")) as file:
        assert file is None


def test_what_the_store_of_the_same_instance_has_is_linked_and_not_copied(tmp_path: Path) -> None:
    store = put(tmp_path / "store", IMAGE)
    disk = tmp_path / "disk"
    disk.mkdir()
    found = take(IMAGE, tmp_path, disk, stores=(store,))
    assert found.size_bytes == 0 and list(found.directory.iterdir()) == []
    assert found.path(IMAGE.digest.removeprefix("sha256:")) == blob(store, IMAGE.digest)


def with_manifest(tmp_path: Path, content: bytes) -> tuple[Image, Path]:
    image = Image(digest_of(content), {digest_of(content): ("", content)})
    return image, put(tmp_path / "disk", image)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"manifests": {}}',
        b'{"layers": [], "config": []}',
        b'{"config": {"digest": "sha256:1", "size": 1}, "layers": []}',
        b'{"config": {"digest": "md5:00", "size": 1}, "layers": []}',
        b'{"config": {"digest": "sha256:' + b"0" * 64 + b'"}, "layers": []}',
        b'{"config": {"digest": "../../../../../../etc/shadow", "size": 1}, "layers": []}',
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, document: bytes) -> None:
    image, disk = with_manifest(tmp_path, document)
    with pytest.raises(UnreadableImageError if document else MissingBlobError):
        take(image, tmp_path, disk)


def test_sizes_are_bounded_before_anything_is_copied(tmp_path: Path) -> None:
    disk = put(tmp_path / "disk", IMAGE)
    with pytest.raises(TooLargeError):
        take(IMAGE, tmp_path, disk, limit=200)
    image, disk = with_manifest(tmp_path / "large", b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(CorruptBlobError):
        collect([image.digest], Sources([], [disk]), tmp_path / "again", 1 << 30)


def test_the_registry_of_a_builder_serves_what_was_taken_and_nothing_else(tmp_path: Path) -> None:
    found = take(IMAGE, tmp_path, put(tmp_path / "disk", IMAGE))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with serve(found, {("team/app", "1"): IMAGE.digest}) as url:
        for reference in ("1", IMAGE.digest):
            with opener.open(f"{url}/v2/team/app/manifests/{reference}") as answer:
                assert answer.read() == IMAGE.parts[IMAGE.digest][1]
                assert answer.headers["Docker-Content-Digest"] == IMAGE.digest
        with opener.open(f"{url}/v2/team/app/blobs/{layer_of(IMAGE)}") as answer:
            assert answer.read() == IMAGE.parts[layer_of(IMAGE)][1]
        for path in ("/v2/team/other/manifests/1", f"/v2/a/blobs/sha256:{0:064x}", "/v2/../../etc/passwd", "/etc"):
            with pytest.raises(HTTPError) as caught:
                opener.open(url + path)
            caught.value.close()
            assert caught.value.code == 404


def test_an_order_survives_its_file() -> None:
    order = BuildOrder(
        "/c", "/ctr", (1, 6, 20), "/b", "/p", "/t", (("a:1", "sha256:0"),), ("/s",), ("/d",), ("/o",), 1, 2
    )
    order = replace(order, is_awaited=True)
    assert BuildOrder.from_text(order.to_text()) == order


@pytest.mark.parametrize(
    ("code", "answer", "error", "words"),
    [
        (EXIT_FULL, "", StoreFullError, "disk"),
        (1, {"error": "refused", "message": "no such layer"}, StoreRefusedError, "no such layer"),
        (1, {"error": "failed", "message": "EIO"}, ImageStoreError, "EIO"),
        (-9, "", BuilderDiedError, "Killed by a test"),
        (0, "", BuilderDiedError, "Killed by a test"),
    ],
)
def test_how_a_builder_ends_is_told_apart(code: int, answer: object, error: type[ImageStoreError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read_answer(code, json.dumps(answer).encode() if answer else b"", b"line\nKilled by a test\n")
    assert type(caught.value) is error
    assert read_answer(0, b'{"size_bytes": 7}', b"") == 7
