"""Images that nobody has pulled yet: a shell, and layers of bytes that do not compress."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.images.__main__ import build_image
from tests.cluster.images.catalog import select_entries
from tests.cluster.images.distribution import RegistryClient, push_image
from tests.cluster.images.oci import RunConfig
from tests.cluster.images.recipe import Kitchen
from tests.cluster.images.rootfs import Rootfs
from tests.cluster.images.store import BuiltImage, ImageStore

MB = 10**6
SHARES = ((0.70, 2 * MB), (0.25, 200_000), (0.05, 10_000))
"""Of the layers: their part of the image, and the size of their files."""


class ImageMaker:
    """Makes images of a size and pushes them. What it keeps is below `directory`."""

    def __init__(self, directory: Path, registry: str) -> None:
        self._store = ImageStore(directory)
        self._client = RegistryClient(registry)
        self._shell = build_image(select_entries("sample-busybox")[0], self._store, Kitchen(self._store))
        self._known: dict[str, str] = {}

    def push(self, name: str, size_bytes: int) -> str:
        """An image of `size_bytes` that shares nothing but the shell with the others; the reference, with a tag."""
        numbers = random.Random(name)
        layers = [self._store.put_layer(tree) for tree in _trees(numbers, size_bytes)]
        image: BuiltImage = self._store.put_image(RunConfig(cmd=("sleep", "100000")), [*self._shell.layers, *layers])
        reference = f"bench/{name}:1"
        push_image(self._client, reference, image, self._store, self._known)
        for layer in layers:
            self._store.blob_path(layer.digest).unlink()
        return f"{self._client.address}/{reference}"


def _trees(numbers: random.Random, size_bytes: int) -> Iterator[Rootfs]:
    for number, (share, file_bytes) in enumerate(SHARES):
        tree = Rootfs()
        for index in range(max(1, int(size_bytes * share / file_bytes))):
            tree.add_text(f"/data/{number}/{index}", numbers.randbytes(file_bytes))
        yield tree
