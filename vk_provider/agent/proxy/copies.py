"""The texts that made a table: on the disk, compressed, so that it can be mended without the provider and without
memory. A whole text and the differences that were applied to it, in order.

The file must not outlive a reboot, as the kernel's tables do not. Blocking; call in a thread.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from vk_provider.jsontypes import Json
from vk_provider.wire.tables import UdpFrontendEntry

log = logging.getLogger(__name__)

_HEAD = struct.Struct("!II")
_LEAST_LIMIT_BYTES = 1 << 20
_COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class Mended:
    """What makes the table again: the whole text and the differences to it, each for what the one before has made; and
    the frontends whose flows are then looked at. packed: elements that go with the whole text (wire.packed)."""

    texts: Sequence[str]
    udp: Sequence[UdpFrontendEntry]
    packed: str = ""


class TableCopy:
    """The copy of one table. An error of the disk loses the copy and is logged; `revision` is "" then.

    revision:       what the texts make together
    node_addresses: that came with the whole text; known without a copy, too, and to the next agent: the file of a lost
                    copy still has them
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = self._limit = 0
        self.revision = ""
        self.node_addresses: tuple[str, ...] = ()

    def load(self, revision: str) -> None:
        """Take over the file of an earlier agent if it makes `revision`."""
        headers: list[dict[str, Any]] = []
        failure = ""
        try:
            with self._path.open("rb") as file:
                headers.extend(_read_headers(file))
                self._size = file.tell()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            failure = str(error)
        if headers:
            self.node_addresses = tuple(headers[0].get("nodeAddresses") or ())
        if failure:
            self._lose(failure)
        elif not revision or not headers or headers[-1]["revision"] != revision:
            self._lose("it is of another revision")
        else:
            self._limit = _limit(headers[0]["size"])
            self.revision = revision

    def replace(
        self,
        revision: str,
        text: str,
        udp: Sequence[UdpFrontendEntry],
        node_addresses: Sequence[str] = (),
        packed: str = "",
    ) -> None:
        """A whole text was applied."""
        self.revision, self.node_addresses = revision, tuple(node_addresses)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._size = self._write_whole(revision, {"text": text, "udp": udp, "packed": packed})
        except OSError as error:
            self._lose(str(error))
        self._limit = _limit(self._size)

    def _write_whole(self, revision: str, document: Json) -> int:
        """In the place of the file that was there; the size. Raises OSError."""
        temporary = self._path.with_name(f"{self._path.name}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            size = _write(file, revision, document, self.node_addresses)
        os.replace(temporary, self._path)
        return size

    def append(self, base: str, revision: str, text: str, udp: Sequence[UdpFrontendEntry]) -> None:
        """A difference to `base` was applied. Beyond a limit the copy is given up: the provider has another one."""
        if not self.revision:
            return
        if base != self.revision:
            self._lose("a difference to another revision was applied")
            return
        try:
            with self._path.open("ab") as file:
                self._size += _write(file, revision, {"text": text, "udp": udp}, ())
            self.revision = revision
        except OSError as error:
            self._lose(str(error))
            return
        if self._size > self._limit:
            self._lose(f"it has grown to {self._size} bytes")

    def read(self) -> Mended:
        """Raises OSError, ValueError when the file is not what was written."""
        texts: list[str] = []
        packed = ""
        udp: dict[tuple[int, str, int], UdpFrontendEntry] = {}
        with self._path.open("rb") as file:
            for _, body in _read_records(file):
                document = orjson.loads(_decompress(body))
                texts.append(document["text"])
                packed = packed or document.get("packed", "")
                for entry in document["udp"]:
                    udp[entry["family"], entry["address"], entry["port"]] = entry
        return Mended(texts, list(udp.values()), packed)

    def _lose(self, reason: str) -> None:
        if self.revision or self._size:
            log.info("no copy of the table %s is kept: %s", self._path.stem, reason)
        self.revision, self._size = "", 0
        try:
            if self.node_addresses:
                self._write_whole("", {"text": "", "udp": ()})
                return
        except OSError as error:
            log.warning("the Node's addresses are not kept: %s", error)
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s", self._path, error)


def _decompress(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise ValueError(f"a body cannot be read: {error}") from None


def _limit(whole_bytes: int) -> int:
    return whole_bytes + max(_LEAST_LIMIT_BYTES, whole_bytes)


def _write(file: BinaryIO, revision: str, document: Json, node_addresses: Sequence[str]) -> int:
    """One record; returns its size."""
    body = zlib.compress(orjson.dumps(document), _COMPRESSION)
    header = orjson.dumps({"revision": revision, "nodeAddresses": node_addresses, "size": len(body)})
    file.write(_HEAD.pack(len(header), len(body)) + header + body)
    return _HEAD.size + len(header) + len(body)


def _read_headers(file: BinaryIO) -> Iterator[dict[str, Any]]:
    for header, length in _read_starts(file):
        end = file.seek(length, os.SEEK_CUR)
        if end > os.fstat(file.fileno()).st_size:
            raise ValueError("it is cut short")
        yield header


def _read_records(file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    for header, length in _read_starts(file):
        body = file.read(length)
        if len(body) != length:
            raise ValueError("it is cut short")
        yield header, body


def _read_starts(file: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Header and length of the body of each record, which the caller reads or passes over."""
    while head := file.read(_HEAD.size):
        if len(head) != _HEAD.size:
            raise ValueError("it is cut short")
        header_bytes, body_bytes = _HEAD.unpack(head)
        header = orjson.loads(file.read(header_bytes))
        if not isinstance(header, dict) or not isinstance(header.get("revision"), str):
            raise ValueError("it has another form")
        yield header, body_bytes
