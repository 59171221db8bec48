"""containerd's content store on the disk: blobs by digest, each complete as soon as it has its name."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vk_provider.podmodel.imagemanifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest

_HEX = re.compile(r"[0-9a-f]{64}")
MAX_MANIFEST_GUESS_BYTES = 1 << 20


class ContentStore:
    """root: containerd's root directory. Methods block for a moment."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "io.containerd.content.v1.content" / "blobs" / "sha256"

    def nearest_directory(self) -> Path:
        """The directory of the blobs, or what there is of the way to it."""
        path = self.directory
        while not path.is_dir() and path != path.parent:
            path = path.parent
        return path

    def scan(self) -> dict[str, int]:
        """Digest to size of every blob, newest first."""
        found = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if _HEX.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, f"sha256:{entry.name}", status.st_size))
        except OSError:
            pass
        return {digest: size for _, digest, size in sorted(found, reverse=True)}

    def open(self, digest: str) -> tuple[int, int] | None:
        """(descriptor, size) of a blob; None when there is none."""
        algorithm, _, digits = digest.partition(":")
        if algorithm != "sha256" or not _HEX.fullmatch(digits):
            return None
        try:
            descriptor = os.open(self.directory / digits, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return descriptor, status.st_size

    def read_manifest(self, digest: str) -> Manifest | None:
        """The manifest or index of this digest, when it is there and is one."""
        found = self.open(digest)
        if found is None:
            return None
        descriptor, size = found
        with open(descriptor, "rb") as file:
            return parse_manifest(file.read(size)) if size <= MAX_MANIFEST_BYTES else None

    def parts_of(self, digest: str, depth: int = 0) -> dict[str, int]:
        """Digest to size of the blobs of an image, of the platforms whose manifests are there."""
        manifest = self.read_manifest(digest)
        if manifest is None:
            return {}
        parts = dict(manifest.blobs)
        for child, _ in manifest.children if depth == 0 else ():
            parts |= self.parts_of(child, depth + 1)
        return parts
