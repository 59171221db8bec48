"""Writes an image as an OCI archive (image-spec v1 layout in a tar file), with what of it there is."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from vk_provider.cloud.local.takeover import Collection

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write_archive(path: Path, reference: str, digest: str, collection: Collection) -> None:
    """The image `digest` under the name `reference`. Layers that it lacks are left out (blocking)."""
    digits = digest.removeprefix("sha256:")
    entry = {
        "mediaType": collection.media_types[digits],
        "digest": digest,
        "size": collection.path(digits).stat().st_size,
        "annotations": {"io.containerd.image.name": reference},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in (("oci-layout", _LAYOUT), ("index.json", index)):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        for part in _list_parts(digits, collection):
            tar.add(collection.path(part), f"blobs/sha256/{part}")


def _list_parts(digits: str, collection: Collection) -> list[str]:
    """All blobs of the image that are here, by hexadecimal digest."""
    if digits in collection.indexes:
        inner = [part for each in collection.indexes[digits] for part in _list_parts(each, collection)]
        return list(dict.fromkeys([digits, *inner]))
    document = json.loads(collection.path(digits).read_bytes())
    names = [str(entry["digest"]).removeprefix("sha256:") for entry in (document["config"], *document["layers"])]
    return [digits, *(name for name in dict.fromkeys(names) if name in collection.media_types)]
