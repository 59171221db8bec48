"""Building images: trees, blobs and documents."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.images.catalog import AGGREGATOR, CATALOG, repository_list, select_entries
from tests.cluster.images.compile import apply_options
from tests.cluster.images.debian import source_entries
from tests.cluster.images.oci import RunConfig, write_archive, write_layer
from tests.cluster.images.recipe import Kitchen
from tests.cluster.images.rootfs import Rootfs, parse_ldd
from tests.cluster.images.store import ImageStore
from tests.cluster.packages import PACKAGE_LIST, parse_package_list


def small_tree() -> Rootfs:
    tree = Rootfs()
    tree.add_text("/etc/deep/file", "hello", 0o600)
    tree.add_symlink("/bin/sh", "busybox")
    tree.add_directory("/tmp", 0o1777)
    tree.add_directory("/home/user", 0o750, 1000, 1001)
    return tree


def test_a_layer_holds_modes_owners_links_and_parents() -> None:
    packed = io.BytesIO()
    layer = write_layer(small_tree().write_tar, packed)
    plain = gzip.decompress(packed.getvalue())
    assert layer.digest == f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert layer.size_bytes == len(packed.getvalue())
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = {member.name: member for member in archive}
    assert sorted(members) == ["bin", "bin/sh", "etc", "etc/deep", "etc/deep/file", "home", "home/user", "tmp"]
    assert members["tmp"].mode == 0o1777 and members["etc/deep/file"].mode == 0o600
    assert (members["home/user"].uid, members["home/user"].gid) == (1000, 1001)
    assert members["bin/sh"].linkname == "busybox"


def test_the_same_tree_gives_the_same_image(tmp_path: Path) -> None:
    def build(directory: Path) -> str:
        store = ImageStore(directory)
        return store.put_image(RunConfig(cmd=("sh",)), [store.put_layer(small_tree())]).manifest.digest

    assert build(tmp_path / "a") == build(tmp_path / "b")


def test_an_image_is_recalled_until_one_of_its_blobs_is_gone(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    image = store.put_image(RunConfig(user="1234"), [store.put_layer(small_tree())])
    store.remember("key", image)
    assert store.recall("key") == image
    assert store.recall("other") is None
    store.blob_path(image.layers[0].digest).write_bytes(b"torn")
    assert store.recall("key") is None


def test_images_that_nobody_asks_for_go_with_the_blobs_that_no_other_has(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    layer = store.put_layer(small_tree())
    images = {name: store.put_image(RunConfig(user=name), [layer]) for name in ("old", "used")}
    for name, image in images.items():
        store.remember(name, image)
    (tmp_path / ".new-killed").touch()
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    assert store.recall("used") == images["used"]
    store.remove_unused()
    assert store.recall("used") == images["used"] and store.recall("old") is None
    assert not store.blob_path(images["old"].config.digest).exists()
    assert not (tmp_path / ".new-killed").exists()


def test_an_archive_names_the_image_and_holds_every_blob(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    image = store.put_image(RunConfig(entrypoint=("/pause",)), [store.put_layer(small_tree())])
    blobs = {part.digest: store.blob_path(part.digest) for part in (image.manifest, *image.parts)}
    write_archive(tmp_path / "image.tar", "registry/pause:1", image.manifest, blobs)
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = archive.getnames()
        index_file = archive.extractfile("index.json")
        assert index_file is not None
        entry = json.load(index_file)["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "registry/pause:1"
    assert {f"blobs/{digest.replace(':', '/')}" for digest in blobs} <= set(names)


def test_a_missing_file_says_how_to_get_it() -> None:
    with pytest.raises(ClusterError, match="packages install"):
        Rootfs().add_file("/x", Path("/nonexistent/program"))


def test_ldd_lines_give_library_paths_and_no_vdso() -> None:
    lines = [
        "\tlinux-vdso.so.1 (0x00007fff)",
        "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
        "\tnot a dynamic executable",
    ]
    assert parse_ldd(lines) == {Path("/lib/x86_64-linux-gnu/libc.so.6"), Path("/lib64/ld-linux-x86-64.so.2")}


def test_source_entries_come_from_both_forms_of_sources_files_of_the_release() -> None:
    deb822 = (
        "Types: deb\n# note\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://other\nSuites: nodistro\nComponents: main\n"
    )
    one_line = (
        "deb [signed-by=/k.gpg] http://mirror/security bookworm-security main contrib\n# deb http://x bookworm main\n"
    )
    entries = source_entries([deb822, one_line], "bookworm")
    assert entries.count("Types: deb-src") == 2
    assert "Suites: bookworm bookworm-updates" in entries and "Signed-By: /k.gpg" in entries
    assert "http://other" not in entries and "http://x" not in entries


def test_options_are_set_and_unset_in_a_configuration() -> None:
    config = "# CONFIG_STATIC is not set\nCONFIG_TC=y\nCONFIG_TCPSVD=y\n"
    changed = apply_options(config, {"CONFIG_STATIC": "y", "CONFIG_TC": "n"})
    assert changed == "CONFIG_STATIC=y\n# CONFIG_TC is not set\nCONFIG_TCPSVD=y\n"


def test_every_catalog_entry_has_a_recipe_and_references_of_its_own(tmp_path: Path) -> None:
    kitchen = Kitchen(ImageStore(tmp_path))
    assert all(callable(getattr(kitchen, entry.recipe.replace("-", "_"))) for entry in (*CATALOG, *AGGREGATOR))
    references = [reference for entry in (*CATALOG, *AGGREGATOR) for reference in entry.references]
    assert len(set(references)) == len(references)
    assert {entry.recipe for entry in select_entries("sample")} == {"pause", "sample-busybox"}


def test_the_repository_list_points_everything_at_the_registry() -> None:
    places = dict(line.split(": ") for line in repository_list("10.0.0.1:5000").splitlines())
    assert places["promoterE2eRegistry"] == '"10.0.0.1:5000/e2e-test-images"'
    assert places["invalidRegistry"] == '"10.0.0.1:1/invalid"'
    assert all("10.0.0.1:" in place for place in places.values())


def test_the_package_list_is_read_without_comments() -> None:
    assert parse_package_list("# a\n\nrunc\ncurl # why\n") == ["runc", "curl"]
    assert {"containerd", "docker-registry", "nftables"} <= set(parse_package_list(PACKAGE_LIST.read_text()))
