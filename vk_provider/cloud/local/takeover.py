"""Takes images over from what instances have pulled: content by digest, and never anything else.

Root of an instance can put whatever it likes below its containerd's root, also links and devices, so nothing there is
opened by a path (openat(2) step by step, no links), only regular files are read, never more than was announced, and a
file counts only when its digest is right. What other prepared stores hold was checked when they were made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

CONTENT = ("io.containerd.content.v1.content", "blobs", "sha256")
"""Below containerd's root: the content by digest."""
MAX_MANIFEST_BYTES = 4 << 20
"""As containerd's own limit (remotes.MaxManifestSize is 8 MiB; registries take 4)."""
MAX_BLOBS = 2000
MAX_DEPTH = 4
"""Of an index within an index."""
_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class MissingBlobError(Exception):
    """No source has it."""


class CorruptBlobError(Exception):
    """A source has something else under this digest; no other source has it."""


class UnreadableImageError(Exception):
    """A manifest that is none."""


class TooLargeError(Exception):
    """More bytes than are allowed."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Of the instances that the images are taken from, and of no other: a registry says what it likes of a name's
    digest, so only who has the content may bring it in under a name.

    stores: roots of the prepared stores that they were started from; disks: their containerd's roots
    """

    stores: Sequence[Path]
    disks: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Lacking:
    """Layers of an image that no source has packed. digest: of the first; chain_id: of the snapshot of all layers up to
    the last of them, as the image's configuration names them (image-spec, "Layer ChainID")."""

    digest: str
    chain_id: str


@dataclass(slots=True)
class Collection:
    """What is needed for some images, by hexadecimal digest, below `directory`. linked: those that a store has.
    indexes: to their manifests that are here; lacking: by manifest: such an image can be had where that snapshot is
    there already."""

    directory: Path
    media_types: dict[str, str] = field(default_factory=dict)
    linked: dict[str, Path] = field(default_factory=dict)
    indexes: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, Lacking] = field(default_factory=dict)
    size_bytes: int = 0

    def path(self, digits: str) -> Path:
        return self.linked.get(digits) or self.directory / digits

    def find_manifests(self, digest: str) -> list[str]:
        """Of an image, by hexadecimal digest: its own, or those of its index that are here."""
        digits = digest.removeprefix("sha256:")
        if digits not in self.indexes:
            return [digits]
        return [found for inner in self.indexes[digits] for found in self.find_manifests(inner)]

    def find_lacking(self, digest: str) -> list[Lacking]:
        """Of an image, in all of its manifests that are here."""
        return [self.lacking[name] for name in self.find_manifests(digest) if name in self.lacking]


def collect(digests: Sequence[str], sources: Sources, target: Path, max_bytes: int) -> Collection:
    """Put the content of the images below `target` (blocking). Of an index, the manifests that a source has: the
    runtime has fetched those of its platform. A layer may be lacking: a runtime does not fetch one that it has unpacked
    for another image already, where that is packed in another way (containerd's issue 8580). Raises the errors above,
    OSError."""
    collection = Collection(target)
    target.mkdir(parents=True, exist_ok=True)
    for digest in digests:
        _collect_manifest(_digits(digest), "", 0, sources, collection, max_bytes)
    return collection


def _collect_manifest(
    digits: str, media_type: str, depth: int, sources: Sources, collection: Collection, max_bytes: int
) -> None:
    _take(digits, None, sources, collection, max_bytes)
    document = _parse(collection.path(digits))
    media_type = str(document.get("mediaType") or media_type)
    entries = document.get("manifests")
    if entries is not None or media_type in _INDEX_TYPES:
        if depth >= MAX_DEPTH or not isinstance(entries, list):
            raise UnreadableImageError(f"sha256:{digits} is no index")
        collection.media_types[digits] = media_type or "application/vnd.oci.image.index.v1+json"
        found = []
        for entry in entries:
            inner, size, inner_type = _read_descriptor(entry)
            if size <= MAX_MANIFEST_BYTES and inner not in found and _is_there(inner, size, sources):
                _collect_manifest(inner, inner_type, depth + 1, sources, collection, max_bytes)
                found.append(inner)
        collection.indexes[digits] = found
        if not found and depth == 0:
            raise MissingBlobError(f"no manifest of the index sha256:{digits}")
        return
    if not isinstance(document.get("layers"), list) or not isinstance(document.get("config"), dict):
        raise UnreadableImageError(f"sha256:{digits} is no manifest")
    config_type = str(document["config"].get("mediaType"))
    is_docker = config_type.startswith("application/vnd.docker.")
    collection.media_types[digits] = media_type or (_DOCKER_MANIFEST if is_docker else _OCI_MANIFEST)
    _take_typed(document["config"], sources, collection, max_bytes)
    lacking: list[int] = []
    for position, entry in enumerate(document["layers"]):
        try:
            _take_typed(entry, sources, collection, max_bytes)
        except MissingBlobError:
            lacking.append(position)
    if lacking:
        first, config = (_read_descriptor(each)[0] for each in (document["layers"][lacking[0]], document["config"]))
        chain_id = _compute_chain_id(collection.path(config), lacking[-1])
        if not chain_id:
            raise MissingBlobError(f"sha256:{first}")
        collection.lacking[digits] = Lacking(f"sha256:{first}", chain_id)


def _take_typed(entry: Any, sources: Sources, collection: Collection, max_bytes: int) -> None:
    digits, size, media_type = _read_descriptor(entry)
    _take(digits, size, sources, collection, max_bytes)
    collection.media_types.setdefault(digits, media_type or "application/octet-stream")


def _compute_chain_id(config: Path, position: int) -> str:
    """Of the layers up to this one; "" where the configuration does not name them."""
    document = _parse(config) if config.stat().st_size <= MAX_MANIFEST_BYTES else {}
    rootfs = document.get("rootfs")
    names = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(names, list) or len(names) <= position:
        return ""
    found = ""
    for name in names[: position + 1]:
        if not isinstance(name, str) or not _DIGEST.fullmatch(name):
            return ""
        found = f"sha256:{hashlib.sha256(f'{found} {name}'.encode()).hexdigest()}" if found else name
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UnreadableImageError(f"sha256:{path.name} is no JSON object")
    return document


def _read_descriptor(entry: Any) -> tuple[str, int, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("size"), int) or entry["size"] < 0:
        raise UnreadableImageError("a descriptor without a size")
    return _digits(str(entry.get("digest"))), entry["size"], str(entry.get("mediaType") or "")


def _digits(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise UnreadableImageError(f"a digest of another kind than sha256: {digest[:40]!r}")
    return match[1]


def _is_there(digits: str, size: int, sources: Sources) -> bool:
    if any(_stored(store, digits).is_file() for store in sources.stores):
        return True
    for disk in sources.disks:
        with open_beneath(disk, (*CONTENT, digits)) as file:
            if file is not None and os.fstat(file.fileno()).st_size == size:
                return True
    return False


def _stored(store: Path, digits: str) -> Path:
    return store.joinpath(*CONTENT, digits)


def _take(digits: str, size: int | None, sources: Sources, collection: Collection, max_bytes: int) -> None:
    """Link or copy one blob. size: None for a manifest whose size nobody has told."""
    if digits in collection.linked or (collection.directory / digits).exists():
        return
    if len(collection.linked) + len(collection.media_types) > MAX_BLOBS:
        raise TooLargeError(f"more than {MAX_BLOBS} blobs")
    for store in sources.stores:
        if (path := _stored(store, digits)).is_file():
            collection.linked[digits] = path
            return
    limit = MAX_MANIFEST_BYTES if size is None else size
    if collection.size_bytes + (size or 0) > max_bytes:
        raise TooLargeError(f"more than {max_bytes} bytes of content")
    is_corrupt = False
    for disk in sources.disks:
        with open_beneath(disk, (*CONTENT, digits)) as file:
            if file is None or not _may_be(os.fstat(file.fileno()).st_size, size):
                continue
            copied = _copy_checked(file, collection.directory / digits, digits, limit)
            if copied is not None:
                collection.size_bytes += copied
                return
            is_corrupt = True
    if is_corrupt:
        raise CorruptBlobError(f"what an instance has as sha256:{digits} is something else")
    raise MissingBlobError(f"sha256:{digits}")


def _may_be(found: int, size: int | None) -> bool:
    """An empty file is the mount point of one that the instance has from a store."""
    return found > 0 if size is None else found == size


def _copy_checked(source: BinaryIO, target: Path, digits: str, limit: int) -> int | None:
    """Copy at most `limit` bytes; None, and no copy, when their digest is another one."""
    building, hashed, copied = target.with_suffix(".part"), hashlib.sha256(), 0
    with open(building, "wb") as file:
        while chunk := source.read(min(_CHUNK, limit + 1 - copied)):
            copied += len(chunk)
            if copied > limit:
                break
            hashed.update(chunk)
            file.write(chunk)
    if copied > limit or hashed.hexdigest() != digits:
        building.unlink()
        return None
    building.rename(target)
    return copied


@contextmanager
def open_beneath(root: Path, names: Sequence[str]) -> Iterator[BinaryIO | None]:
    """The regular file `names` below `root`, which somebody else writes; None when there is none. No link is followed,
    and no device or pipe is opened for more than a look."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    file: BinaryIO | None = None
    try:
        try:
            for name in names[:-1]:
                inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            if stat.S_ISREG(os.stat(names[-1], dir_fd=descriptor, follow_symlinks=False).st_mode):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                opened = os.open(names[-1], flags, dir_fd=descriptor)
                file = os.fdopen(opened, "rb")
                if not stat.S_ISREG(os.fstat(opened).st_mode):  # it was replaced in between
                    file.close()
                    file = None
        except OSError:
            file = None
        yield file
    finally:
        if file is not None:
            file.close()
        os.close(descriptor)
