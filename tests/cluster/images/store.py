"""Built images in the user's cache: blobs by digest, and which image came out of which inputs."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from tests.cluster.images.oci import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    RunConfig,
    build_config,
    build_manifest,
    digest_of,
    write_layer,
)
from tests.cluster.images.rootfs import Rootfs
from tests.cluster.prune import UNUSED_S, mark_used


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image whose blobs are all in the store."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """Everything the manifest refers to."""
        return (self.config, *self.layers)


class ImageStore:
    """A directory with `blobs/sha256/<hex>` and `images/<key>.json`; files are renamed in, so writers may be many."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("blobs/sha256", "images"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def blob_path(self, digest: str) -> Path:
        """Where the blob with `digest` is or would be."""
        return self.directory / "blobs" / digest.replace(":", "/")

    def _temporary(self) -> BinaryIO:
        return tempfile.NamedTemporaryFile("wb", dir=self.directory, prefix=".new-", delete=False)

    def _adopt(self, temporary: str, path: Path) -> None:
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)

    def put_blob(self, media_type: str, content: bytes) -> Descriptor:
        """Keep a small blob."""
        descriptor = Descriptor(media_type, digest_of(content), len(content))
        with self._temporary() as file:
            file.write(content)
        self._adopt(file.name, self.blob_path(descriptor.digest))
        return descriptor

    def put_layer(self, tree: Rootfs) -> Descriptor:
        """Pack a tree into a layer and keep it."""
        with self._temporary() as file:
            layer = write_layer(tree.write_tar, file)
        self._adopt(file.name, self.blob_path(layer.digest))
        return layer

    def put_image(self, run: RunConfig, layers: list[Descriptor]) -> BuiltImage:
        """Keep the config and the manifest of an image made of kept layers."""
        config = self.put_blob(CONFIG_TYPE, build_config(run, layers))
        manifest = self.put_blob(MANIFEST_TYPE, build_manifest(config, layers))
        return BuiltImage(manifest, config, tuple(layers))

    def remember(self, key: str, image: BuiltImage) -> None:
        """Note that `image` is what the inputs hashed as `key` give."""
        with self._temporary() as file:
            file.write(json.dumps(asdict(image)).encode())
        self._adopt(file.name, self.directory / "images" / f"{key}.json")

    def recall(self, key: str) -> BuiltImage | None:
        """The image noted under `key`, if it and all its blobs are still there in full."""
        note = self.directory / "images" / f"{key}.json"
        try:
            image = _read_note(note)
        except FileNotFoundError:
            return None
        mark_used(note)
        return image if all(self._holds(part) for part in (image.manifest, *image.parts)) else None

    def remove_unused(self) -> None:
        """Remove images that were not asked for in two weeks, and what else is as old and belongs to no image."""
        oldest = time.time() - UNUSED_S
        kept: set[Path] = set()
        for note in (self.directory / "images").glob("*.json"):
            if note.stat().st_mtime < oldest:
                note.unlink()
                continue
            image = _read_note(note)
            kept.update(self.blob_path(part.digest) for part in (image.manifest, *image.parts))
        for path in (*self.directory.glob("blobs/sha256/*"), *self.directory.glob(".new-*")):
            if path not in kept and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _holds(self, part: Descriptor) -> bool:
        path = self.blob_path(part.digest)
        return path.exists() and path.stat().st_size == part.size_bytes


def _read_note(path: Path) -> BuiltImage:
    document = json.loads(path.read_text())
    return BuiltImage(
        Descriptor(**document["manifest"]),
        Descriptor(**document["config"]),
        tuple(Descriptor(**layer) for layer in document["layers"]),
    )
