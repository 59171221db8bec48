"""OCI image documents and the archive form (image-spec v1.1): pure of any registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The part of an image's config that says how a container of it runs (image-spec config.md)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    env: tuple[str, ...] = (f"PATH={DEFAULT_PATH}",)
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""

    def document(self) -> dict[str, Any]:
        """The `config` object; empty fields are left out."""
        fields: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "WorkingDir": self.working_dir,
            "StopSignal": self.stop_signal,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by its digest (`sha256:<hex>`), with its size in bytes; `diff_id` is the digest of an unpacked layer."""

    media_type: str
    digest: str
    size_bytes: int
    diff_id: str = field(default="", compare=False)

    def document(self) -> dict[str, Any]:
        """The descriptor as it stands in manifests."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


def digest_of(content: bytes) -> str:
    """`sha256:<hex>` of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical_json(document: dict[str, Any]) -> bytes:
    """JSON with the same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def architecture() -> str:
    """GOARCH of this machine."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


class _HashingWriter(io.RawIOBase):
    """Passes bytes on and keeps their SHA-256 and count."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        self._output.write(data)
        self.size_bytes += len(data)
        return len(data)

    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def write_layer(write_tar: Callable[[BinaryIO], None], output: BinaryIO) -> Descriptor:
    """Write what `write_tar` writes as a gzip layer to `output`; streams, keeps nothing in memory."""
    packed = _HashingWriter(output)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=packed, mtime=0) as compressor:
        plain = _HashingWriter(compressor)
        write_tar(plain)
    return Descriptor(LAYER_TYPE, packed.digest(), packed.size_bytes, plain.digest())


def build_config(run: RunConfig, layers: list[Descriptor]) -> bytes:
    """The image config document for `layers`, lowest first."""
    document = {
        "architecture": architecture(),
        "os": "linux",
        "config": run.document(),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": "vk-provider tests/cluster/images"} for _ in layers],
    }
    return canonical_json(document)


def build_manifest(config: Descriptor, layers: list[Descriptor]) -> bytes:
    """The image manifest document."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
    }
    return canonical_json(document)


def build_index(manifest: Descriptor, reference: str = "") -> bytes:
    """An image index with the one manifest; `reference` becomes the name containerd imports it under."""
    entry = {**manifest.document(), "platform": {"architecture": architecture(), "os": "linux"}}
    if reference:
        name = "org.opencontainers.image.ref.name"
        entry["annotations"] = {"io.containerd.image.name": reference, name: reference}
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def write_archive(output: Path, reference: str, manifest: Descriptor, blobs: dict[str, Path]) -> None:
    """Write an OCI image layout as a tar (`ctr image import` reads it).

    `blobs` maps every digest the image needs, the manifest's included, to a file.
    """
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", build_index(manifest, reference)),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for digest in sorted(blobs):
            member = tarfile.TarInfo(f"blobs/{digest.replace(':', '/')}")
            member.size = blobs[digest].stat().st_size
            with blobs[digest].open("rb") as content_file:
                archive.addfile(member, content_file)
