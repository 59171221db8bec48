"""The tree that a builder makes, in containerd's layout. Pods wait for it (preparing.firsttime), so here is what keeps
containerd from waiting for the disk, and from doing what is done already."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vk_provider.cloud.local.takeover import CONTENT, Collection


@contextmanager
def in_memory(source: Path, tree: Path, target: Path) -> Iterator[None]:
    """`tree` has the databases of `source` (PLUGIN/FILE), which are in memory: containerd waits for the disk about a
    hundred times for one image otherwise. At the end without an error they are below `target` (blocking). Raises
    OSError."""
    with ExitStack() as stack:
        files = []
        for path in sorted(source.glob("*/*.db")):
            name = path.relative_to(source)
            file = stack.enter_context(open(os.memfd_create(path.name), "w+b"))
            with path.open("rb") as known:
                shutil.copyfileobj(known, file)
            file.flush()
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            files.append((name, file))
        yield
        for name, file in files:
            (tree / name).unlink()
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            file.seek(0)
            with open(target / name, "xb") as kept:
                shutil.copyfileobj(file, kept)
                kept.flush()
                os.fsync(kept.fileno())


@contextmanager
def written(collection: Collection) -> Iterator[None]:
    """The content is on the disk at the end, as containerd has it that writes it itself; meanwhile others work. Raises
    OSError."""
    paths = [collection.path(digits) for digits in collection.media_types if digits not in collection.linked]
    errors: list[OSError] = []

    def write() -> None:
        try:
            for path in paths:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=write, name="write content")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def offer_content(tree: Path, digests: Sequence[str], collection: Collection) -> None:
    """Put the content of the images where containerd keeps its own: what it finds there, by its digest, it does not
    fetch, check and write once more. What belongs to none of its images it does not find, and that would stay for ever:
    so images of which there are several manifests here, or not all layers, are fetched all the same."""
    if any(len(collection.find_manifests(each)) != 1 or collection.find_lacking(each) for each in digests):
        return
    content = tree.joinpath(*CONTENT)
    content.mkdir(parents=True, exist_ok=True)
    for digits in collection.media_types:
        if digits not in collection.linked:
            collection.path(digits).chmod(0o444)  # as containerd leaves it
        try:
            os.link(collection.path(digits), content / digits)
        except OSError:  # it is there, is on another file system, or has the most links that this one allows
            continue


def link_content(tree: Path, stores: Sequence[Path]) -> None:
    """Content that another store has, too, is on the disk once."""
    for copy in list(tree.joinpath(*CONTENT).iterdir()):
        for store in stores:
            path = store.joinpath(*CONTENT, copy.name)
            if not path.is_file() or path.samefile(copy):
                continue
            link = copy.with_suffix(".link")
            try:
                os.link(path, link)
            except OSError:  # another file system, or the most links that this one allows
                continue
            link.rename(copy)
            break
