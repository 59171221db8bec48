"""Pixels of a PNG file, as far as a browser writes it: 8 bits, RGB or RGBA, not interlaced."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

Pixel = tuple[int, int, int]
_CHANNELS = {2: 3, 6: 4}


def read_rows(path: Path, count: int) -> list[list[Pixel]]:
    """The first rows. Raises ValueError for another kind of file."""
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is no PNG")
    width, _, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or kind not in _CHANNELS or interlaced:
        raise ValueError(f"{path} has another form: depth {depth}, colour type {kind}")
    size, raw = _CHANNELS[kind], zlib.decompress(_image_data(data))
    before, rows = bytes(width * size), []
    for row in range(count):
        start = row * (width * size + 1)
        before = _unfilter(raw[start], raw[start + 1 : start + 1 + width * size], before, size)
        rows.append([(before[at], before[at + 1], before[at + 2]) for at in range(0, len(before), size)])
    return rows


def _image_data(data: bytes) -> bytes:
    found, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            found += data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def _unfilter(kind: int, line: bytes, above: bytes, size: int) -> bytes:
    """One row (PNG specification, 9.2)."""
    out = bytearray(line)
    for at in range(len(out)):
        left = out[at - size] if at >= size else 0
        up, corner = above[at], above[at - size] if at >= size else 0
        guess = left + up - corner
        paeth = min((left, up, corner), key=lambda value: abs(guess - value))
        out[at] = (out[at] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
    return bytes(out)
