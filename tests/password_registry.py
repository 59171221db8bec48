"""A registry in the test's process that may demand a password: it serves images that a test makes, and counts requests.

Pulling only (distribution-spec v1.1), with Basic or Bearer authentication (the token specification of distribution).
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import secrets
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import web

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass(frozen=True, slots=True)
class Image:
    """digest: what a tag points to; parts: digest to (media type, content), the digest's own among them."""

    digest: str
    parts: Mapping[str, tuple[str, bytes]]


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def make_layer(files: Mapping[str, bytes], *, modes: Mapping[str, int] | None = None) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), (modes or {}).get(name, 0o644)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pack_zstd(content: bytes) -> bytes:
    """A Zstandard frame of raw blocks (RFC 8878), of which there need be no compressor."""
    blocks = [content[start : start + (128 << 10)] for start in range(0, len(content), 128 << 10)] or [b""]
    packed = bytearray(b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little"))
    for number, block in enumerate(blocks):
        packed += (len(block) << 3 | (number == len(blocks) - 1)).to_bytes(3, "little") + block
    return bytes(packed)


def make_image(
    layers: Sequence[bytes], cmd: Sequence[str] = ("/bin/sh",), architecture: str = "amd64", *, zstd: bool = False
) -> Image:
    """An image of one platform with these layers (uncompressed tars)."""
    layer_type = ZSTD_LAYER_TYPE if zstd else LAYER_TYPE
    packed = [pack_zstd(layer) if zstd else gzip.compress(layer, 1, mtime=0) for layer in layers]
    config = orjson.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": list(cmd)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    )
    manifest = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(layer_type, layer) for layer in packed],
        }
    )
    parts = {digest_of(layer): (layer_type, layer) for layer in packed}
    parts |= {digest_of(config): (CONFIG_TYPE, config), digest_of(manifest): (MANIFEST_TYPE, manifest)}
    return Image(digest_of(manifest), parts)


def make_index(images: Mapping[str, Image]) -> Image:
    """An index of images by architecture."""
    entries = []
    parts: dict[str, tuple[str, bytes]] = {}
    for architecture, image in images.items():
        media_type, content = image.parts[image.digest]
        platform = {"architecture": architecture, "os": "linux"}
        entries.append({**_descriptor(media_type, content), "platform": platform})
        parts |= image.parts
    index = orjson.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})
    return Image(digest_of(index), {**parts, digest_of(index): (INDEX_TYPE, index)})


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


@dataclass(slots=True)
class PasswordRegistry:
    """`start` serves it on an address; `host` is then what images are named after.

    users:    name to password; empty: everybody may pull
    bearer:   tokens by the registry's own endpoint, in place of Basic
    requests: counts by "METHOD kind", kind being manifests or blobs, of those that were answered with content
    refused:  requests without a valid password
    blobs:    counts by digest, of the blobs that were answered with content
    redirect_blobs: to another host, where a signature in the URL is the only credential, as registries with an object
              storage do
    gate:     blobs are not answered before it is set; at_gate is set by the first that waits
    break_once: blobs that are sent by half and then broken off, each once
    """

    users: dict[str, str] = field(default_factory=dict)
    bearer: bool = False
    requests: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    blobs: Counter[str] = field(default_factory=Counter)
    redirect_blobs: bool = False
    gate: asyncio.Event | None = None
    at_gate: asyncio.Event = field(default_factory=asyncio.Event)
    break_once: set[str] = field(default_factory=set)
    delay_s: float = 0.0
    host: str = ""
    _tags: dict[tuple[str, str], str] = field(default_factory=dict)
    _parts: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    _tokens: set[str] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    def push(self, repository: str, tag: str, image: Image) -> None:
        """Let the tag point to the image."""
        self._tags[(repository, tag)] = image.digest
        self._parts |= image.parts

    def remove_tag(self, repository: str, tag: str) -> None:
        del self._tags[(repository, tag)]

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> None:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/storage/{digest}", self._handle_storage)
        app.router.add_route("*", "/v2/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self.host = f"{address}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _may(self, request: web.Request) -> bool:
        if not self.users:
            return True
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        return value in self._tokens if self.bearer else kind == "Basic" and self._knows(value)

    def _knows(self, basic: str) -> bool:
        name, _, password = base64.b64decode(basic).decode().partition(":")
        return self.users.get(name) == password

    async def _token(self, request: web.Request) -> web.Response:
        _, _, value = request.headers.get("Authorization", "").partition(" ")
        if not value or not self._knows(value):
            return web.Response(status=401)
        token = secrets.token_hex(8)
        self._tokens.add(token)
        return web.json_response({"token": token, "expires_in": 300})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.delay_s)
        if not self._may(request):
            self.refused += 1
            challenge = f'Bearer realm="http://{self.host}/token",service="test"' if self.bearer else 'Basic realm="x"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        path = request.match_info["path"]
        if not path:
            return web.Response()
        rest, _, reference = path.rpartition("/")
        repository, _, kind = rest.rpartition("/")
        digest = self._tags.get((repository, reference), reference)
        if digest not in self._parts:
            return web.Response(status=404)
        self.requests[f"{request.method} {kind}"] += 1
        media_type, content = self._parts[digest]
        if kind == "blobs" and request.method == "GET":
            if self.redirect_blobs:
                port = self.host.rpartition(":")[2]
                return web.Response(
                    status=307, headers={"Location": f"http://localhost:{port}/storage/{digest}?signed=yes"}
                )
            return await self._send_blob(request, digest)
        headers = {"Docker-Content-Digest": digest, "Content-Type": media_type, "Content-Length": str(len(content))}
        return web.Response(headers=headers, body=b"" if request.method == "HEAD" else content)

    async def _handle_storage(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("signed") != "yes" or "Authorization" in request.headers:
            return web.Response(status=403)
        return await self._send_blob(request, request.match_info["digest"])

    async def _send_blob(self, request: web.Request, digest: str) -> web.StreamResponse:
        """With ranges, as registries answer them."""
        if self.gate is not None:
            self.at_gate.set()
            await self.gate.wait()
        media_type, content = self._parts[digest]
        start = request.http_range.start or 0
        if not start:
            self.blobs[digest] += 1
        part = content[start:]
        headers = {"Content-Type": media_type, "Content-Length": str(len(part)), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if digest in self.break_once:
            self.break_once.discard(digest)
            await response.write(part[: len(part) // 2])
            await asyncio.sleep(0.05)
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write(part)
        return response
