"""A pause image without a compiler or a registry: a hand-assembled static program in an OCI archive.

The program ignores SIGCHLD, so that the kernel reaps what a shared PID namespace leaves to it, and sleeps for ever.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

from vk_provider.errors import BadStartError

PAUSE_IMAGE = "vk-provider.internal/pause:1"
_MOUNT_POINTS = ("dev", "etc", "proc", "sys")
"""Of a sandbox, with /etc/resolv.conf: what the image lacks of them, the runtime makes in each sandbox's own layer."""
_BASE = 0x400000
_HEADERS = 64 + 56

_X86_64 = bytes.fromhex(
    "b80d000000"  # mov eax, 13           rt_sigaction(
    "bf11000000"  # mov edi, 17             SIGCHLD,
    "488d3517000000"  # lea rsi, [rip+23]   {SIG_IGN},
    "31d2"  # xor edx, edx                  NULL,
    "41ba08000000"  # mov r10d, 8           sizeof(sigset_t))
    "0f05"  # syscall
    "b822000000"  # mov eax, 34           pause()
    "0f05"  # syscall
    "ebf7"  # jmp -9
    "90909090"
)


def build_pause_program(architecture: str = "amd64") -> bytes:
    """Return the program as a static ELF file. Only amd64; elsewhere a sandbox image must be configured."""
    if architecture != "amd64":
        raise BadStartError(f"local cloud: no built-in pause image for {architecture}; set sandbox_image")
    action = struct.pack("<QQQQ", 1, 0, 0, 0)
    code = _X86_64 + action
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program_header = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + program_header + code


def write_pause_archive(path: Path, architecture: str = "amd64") -> None:
    """Write the image as an OCI archive (image-spec v1 layout in a tar file) named PAUSE_IMAGE."""
    layer = _tar({"pause": (build_pause_program(architecture), 0o755), "etc/resolv.conf": (b"", 0o644)}, _MOUNT_POINTS)
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"User": "65535:65535", "Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created_by": "vk-provider"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": PAUSE_IMAGE, "org.opencontainers.image.ref.name": PAUSE_IMAGE}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _json({"schemaVersion": 2, "manifests": [entry]}),
    }
    for blob in (layer, config, manifest):
        files[f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}"] = blob
    path.write_bytes(_tar({name: (data, 0o644) for name, data in files.items()}))


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _tar(files: dict[str, tuple[bytes, int]], directories: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, (data, mode) in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
