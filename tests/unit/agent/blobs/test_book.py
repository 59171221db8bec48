"""Where the bytes of an image came from."""

from __future__ import annotations

import json
from pathlib import Path

from tests.password_registry import make_image, make_layer
from vk_provider.agent.blobs.book import BlobBook, Origins
from vk_provider.agent.blobs.content import ContentStore


def test_layers_that_the_runtime_had_unpacked_for_another_image_did_not_come_from_the_registry(tmp_path: Path) -> None:
    content = ContentStore(tmp_path)
    content.directory.mkdir(parents=True)
    image = make_image([make_layer({"base": b"b" * 1000}), make_layer({"own": b"o"})], zstd=True)
    skipped = json.loads(image.parts[image.digest][1])["layers"][0]["digest"]
    for digest, (_, part) in image.parts.items():
        if digest != skipped:
            (content.directory / digest.removeprefix("sha256:")).write_bytes(part)
    book = BlobBook(content, lambda _: None, lambda: "")
    sizes = {digest: len(part) for digest, (_, part) in image.parts.items() if digest != image.digest}
    assert book.origins([image.digest], before=()) == Origins(
        store=sizes[skipped], registry=sum(sizes.values()) - sizes[skipped]
    )
