"""What a builder of prepared stores spares containerd: the disk beneath its databases, and content that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.password_registry import Image, make_image, make_index, make_layer
from vk_provider.cloud.local.buildtree import in_memory, offer_content, written
from vk_provider.cloud.local.takeover import CONTENT, Collection, Sources, collect

IMAGE = make_image([make_layer({"a": b"1" * 1000}), make_layer({"b": b"2"})])
NAME = Path("io.containerd.metadata.v1.bolt", "meta.db")


def take(directory: Path, image: Image) -> Collection:
    content = (directory / "disk").joinpath(*CONTENT)
    content.mkdir(parents=True)
    for digest, (_, part) in image.parts.items():
        (content / digest.removeprefix("sha256:")).write_bytes(part)
    return collect([image.digest], Sources([], [directory / "disk"]), directory / "blobs", 1 << 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"before")
    return tmp_path / "source"


def test_databases_are_changed_in_memory_and_kept_at_the_end(source: Path, tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "db"
    with in_memory(source, tree, target):
        with open(tree / NAME, "r+b") as file:
            assert file.read() == b"before"
            file.write(b" and after")
        assert not target.exists()
    assert (target / NAME).read_bytes() == b"before and after"
    assert not (tree / NAME).is_symlink()
    assert (source / NAME).read_bytes() == b"before"


def test_databases_of_a_failed_build_are_kept_nowhere(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), in_memory(source, tmp_path / "tree", tmp_path / "db"):
        (tmp_path / "tree" / NAME).write_bytes(b"half")
        raise OSError("full")
    assert not (tmp_path / "db").exists()
    assert not (tmp_path / "tree" / NAME).exists(), "the memory is given back"


def test_content_is_offered_as_the_files_that_were_checked(tmp_path: Path) -> None:
    collection, tree = take(tmp_path, IMAGE), tmp_path / "tree"
    with written(collection):
        offer_content(tree, [IMAGE.digest], collection)
    there = {path.name: path for path in tree.joinpath(*CONTENT).iterdir()}
    assert there.keys() == {digest.removeprefix("sha256:") for digest in IMAGE.parts}
    assert all(path.samefile(collection.path(digits)) for digits, path in there.items())
    assert {path.stat().st_mode & 0o777 for path in there.values()} == {0o444}


def test_content_that_is_there_stays(tmp_path: Path) -> None:
    collection, tree = take(tmp_path, IMAGE), tmp_path / "tree"
    digits = IMAGE.digest.removeprefix("sha256:")
    known = tree.joinpath(*CONTENT, digits)
    known.parent.mkdir(parents=True)
    known.write_bytes(IMAGE.parts[IMAGE.digest][1])
    offer_content(tree, [IMAGE.digest], collection)
    assert not known.samefile(collection.path(digits))
    assert len(list(known.parent.iterdir())) == len(IMAGE.parts)


def test_images_with_parts_that_containerd_might_not_take_are_not_offered(tmp_path: Path) -> None:
    other = make_image([make_layer({"x": b"x"})], architecture="s390x")
    index = make_index({"amd64": IMAGE, "s390x": other})
    offer_content(tmp_path / "tree", [index.digest], take(tmp_path, index))
    assert not (tmp_path / "tree").exists()


def test_content_that_cannot_be_written_fails_the_build(tmp_path: Path) -> None:
    collection = take(tmp_path, IMAGE)
    collection.path(IMAGE.digest.removeprefix("sha256:")).unlink()
    with pytest.raises(FileNotFoundError), written(collection):
        pass
