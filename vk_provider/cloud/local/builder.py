"""Builds a prepared store: a process of its own, without a network, at the lowest priority where no pod waits for it.
Images that no instance has it fetches before it gives its network up; they are unpacked without one.

    python -m vk_provider.cloud.local.builder ORDER

ORDER is the file of a BuildOrder. The process writes one JSON object to standard output: {"size_bytes"}, or
{"error", "message"}; without any it has died. Whoever started it puts the store in its place, or removes what is left.

Layers come from pods. containerd unpacks them here without the right to make devices, and whatever it unpacks is later
seen by instances through mounts that allow none.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vk_provider.cloud.local import syscalls
from vk_provider.cloud.local.archive import write_archive
from vk_provider.cloud.local.blobserver import serve
from vk_provider.cloud.local.buildtree import in_memory, link_content, offer_content, written
from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.cloud.local.golden import (
    link_tree,
    mark_opaque,
    run_containerd,
    set_databases_apart,
    work_directory,
    write_hosts,
)
from vk_provider.cloud.local.storesize import SizeLimit, measure
from vk_provider.cloud.local.takeover import (
    Collection,
    CorruptBlobError,
    MissingBlobError,
    Sources,
    TooLargeError,
    UnreadableImageError,
    collect,
)
from vk_provider.imagesets.imageset import split_reference

EXIT_FULL = 75
"""The disk has less than reserve_bytes left."""
_WATCH_S = 0.2
_CTR_LIMIT_S = 3600.0
_CRI_LABEL = "io.cri-containerd.image=managed"
_RESTRICTED = ("--bounding-set=-mknod", "--inh-caps=-mknod")


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """base: directory of the shared root (tree, db) that the new one starts as: with what every instance has, or with
    some of the set's images, too; plain: of the one with what every instance has; target: must not exist
    images: what the base has not, (canonical reference, digest)
    stores, disks: see takeover.Sources
    others: roots of stores whose files are linked where the new one has the same content; nothing is taken from them
    max_bytes: of the store beside `plain`, and of what is fetched for it
    reserve_bytes: that must stay free on the disk
    registries: where hosts of image names are reached in another way than by HTTPS (golden.write_hosts) when the images
        are to be fetched; None: they are taken over from the sources alone
    is_awaited: pods wait for the store
    """

    containerd_path: str
    ctr_path: str
    version: tuple[int, int, int]
    base: str
    plain: str
    target: str
    images: tuple[tuple[str, str], ...]
    stores: tuple[str, ...]
    disks: tuple[str, ...]
    others: tuple[str, ...]
    max_bytes: int
    reserve_bytes: int
    registries: dict[str, dict[str, Any]] | None = None
    is_awaited: bool = False

    def to_text(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> BuildOrder:
        document: dict[str, Any] = json.loads(text)
        for key in ("version", "stores", "disks", "others"):
            document[key] = tuple(document[key])
        document["images"] = tuple((reference, digest) for reference, digest in document["images"])
        return cls(**document)


def fetch(order: BuildOrder) -> BuildOrder:
    """Fetch the content of the images as anybody may, by their digests; returns the order with one source more. Raises
    CommandError, TooLargeError, OSError."""
    root = Path(order.target) / "fetched"
    root.mkdir(parents=True)
    containerd = Containerd(order.containerd_path, order.ctr_path, order.version)
    limit = SizeLimit(root, order.max_bytes, "of content")
    with work_directory(Path(order.target)) as work:
        hosts = write_hosts(work / "hosts", order.registries or {})
        with run_containerd(containerd, root, work, _RESTRICTED) as address:
            fetching = [order.ctr_path, "--address", address, "--namespace", "k8s.io", "content", "fetch"]
            platform = f"linux/{machine_architecture()}"
            for reference, digest in order.images:
                name = f"{split_reference(reference)[0]}@{digest}"
                argv = [*fetching, "--hosts-dir", str(hosts), "--platform", platform, name]
                run_command(argv, timeout_s=_CTR_LIMIT_S, watch=limit.check)
    return dataclasses.replace(order, disks=(*order.disks, str(root)), registries=None)


def build(order: BuildOrder) -> int:
    """Make `target`/tree and `target`/db; returns the bytes that they take beside `plain`. Raises the errors of
    takeover, CommandError, OSError."""
    base, target = Path(order.base), Path(order.target)
    target.mkdir(parents=True, exist_ok=True)
    sources = Sources([Path(path) for path in order.stores], [Path(path) for path in order.disks])
    digests = [digest for _, digest in order.images]
    collection = collect(digests, sources, target / "blobs", order.max_bytes)
    tree = target / "tree"
    link_tree(base / "tree", tree)
    with in_memory(base / "db", tree, target / "db"), written(collection):
        offer_content(tree, digests, collection)
        _pull(order, collection, target, tree)
    mark_opaque(tree)
    set_databases_apart(tree, target / "db")
    link_content(tree, [Path(path) for path in (*order.stores, *order.others)])
    shutil.rmtree(target / "blobs")
    shutil.rmtree(target / "fetched", ignore_errors=True)
    size = measure(target, Path(order.plain))
    if size > order.max_bytes:
        raise TooLargeError(f"{size} bytes unpacked, {order.max_bytes} are allowed")
    return size


def _pull(order: BuildOrder, collection: Collection, target: Path, tree: Path) -> None:
    containerd = Containerd(order.containerd_path, order.ctr_path, order.version)
    limit = SizeLimit(tree, order.max_bytes, "unpacked", Path(order.plain))
    names, hosts = {}, set()
    for reference, digest in order.images:
        repository, suffix = split_reference(reference)
        host, _, path = repository.partition("/")
        names[(path, suffix)] = digest
        hosts.add(host)
    with serve(collection, names) as url, work_directory(target) as work:
        directory = write_hosts(work / "hosts", {host: {"server": url} for host in hosts})
        with run_containerd(containerd, tree, work, _RESTRICTED) as address:
            ctr = [order.ctr_path, "--address", address, "--namespace", "k8s.io"]
            # containerd 2 otherwise wants the manifests of all platforms of an index; CRI has not fetched them.
            of_platform = ["--skip-metadata"] if order.version >= (2, 0) else []
            pull = [*ctr, "images", "pull", "--hosts-dir", str(directory), "--label", _CRI_LABEL, *of_platform]
            for reference, digest in _in_order(ctr, order.images, collection):
                if collection.find_lacking(digest):
                    _import(ctr, reference, digest, collection, limit)
                    run_command([*ctr, "images", "label", reference, _CRI_LABEL])
                else:
                    run_command([*pull, reference], timeout_s=_CTR_LIMIT_S, watch=limit.check)
                _name_as_cri([*ctr, "images"], order.version, reference, digest, collection)


def _in_order(
    ctr: Sequence[str], images: Sequence[tuple[str, str]], collection: Collection
) -> Iterator[tuple[str, str]]:
    """Each image once the layers that it lacks are unpacked, be it for the base or for one that came before. Raises
    MissingBlobError when nothing unpacks them."""
    waiting = list(images)
    while waiting:
        unpacked = _list_snapshots(ctr) if collection.lacking else frozenset[str]()
        ready = [each for each in waiting if all(one.chain_id in unpacked for one in collection.find_lacking(each[1]))]
        if not ready:
            reference, digest = waiting[0]
            layer = collection.find_lacking(digest)[0].digest
            raise MissingBlobError(f"no instance has the layer {layer} of {reference}, and no other image brings it")
        yield from ready
        waiting = [each for each in waiting if each not in ready]


def _list_snapshots(ctr: Sequence[str]) -> frozenset[str]:
    """Those of layers, by chain ID."""
    lines = run_command([*ctr, "snapshots", "list"]).splitlines()
    return frozenset(line.split()[0] for line in lines if line.startswith("sha256:"))


def _import(ctr: Sequence[str], reference: str, digest: str, collection: Collection, limit: SizeLimit) -> None:
    """As `ctr images pull`, which with containerd 1.6 wants all layers, also those that are unpacked."""
    archive = collection.directory / "image.tar"
    write_archive(archive, reference, digest, collection)
    try:
        run_command([*ctr, "images", "import", str(archive)], timeout_s=_CTR_LIMIT_S, watch=limit.check)
    finally:
        archive.unlink()


def _name_as_cri(
    images: Sequence[str], version: tuple[int, int, int], reference: str, digest: str, collection: Collection
) -> None:
    """CRI keeps an image under its reference, under its digest and under its ID, the digest of its configuration. All
    have the label that the first has."""
    repository, _ = split_reference(reference)
    names = {f"{repository}@{digest}", _find_config(digest, collection)} - {reference, ""}
    if not names:
        return
    run_command([*images, "tag", "--force", reference, *sorted(names)])
    if version >= (2, 0):  # which leaves labels behind
        for name in sorted(names):
            run_command([*images, "label", name, _CRI_LABEL])


def _find_config(digest: str, collection: Collection) -> str:
    """The configuration's digest; "" where an index has several manifests here: CRI finds it by itself."""
    manifests = collection.find_manifests(digest)
    if len(manifests) != 1:
        return ""
    return str(json.loads(collection.path(manifests[0]).read_bytes())["config"]["digest"])


def _watch_disk(directory: Path, reserve_bytes: int) -> None:
    """End the process, and so its containerd, before the disk is full."""
    while True:
        status = os.statvfs(directory)
        if status.f_bavail * status.f_frsize < reserve_bytes:
            os._exit(EXIT_FULL)
        time.sleep(_WATCH_S)


_ERRORS = {
    MissingBlobError: "source-lost",
    CorruptBlobError: "corrupt",
    UnreadableImageError: "refused",
    TooLargeError: "full",
    CommandError: "refused",
}


def main(argv: list[str]) -> int:
    order = BuildOrder.from_text(Path(argv[0]).read_text())
    if not order.is_awaited:
        os.nice(19)
    os.umask(0o022)
    watched = Path(order.target).parent
    threading.Thread(target=_watch_disk, args=(watched, order.reserve_bytes), name="disk", daemon=True).start()
    try:
        if order.registries is not None:
            order = fetch(order)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.set_interface_up("lo")
        answer: dict[str, Any] = {"size_bytes": build(order)}
    except tuple(_ERRORS) as error:
        answer = {"error": _ERRORS[type(error)], "message": str(error)}
    except OSError as error:
        answer = {"error": "full" if error.errno == 28 else "failed", "message": str(error)}
    print(json.dumps(answer), flush=True)
    return 0 if "size_bytes" in answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
