"""The elements of a large table, ready for the kernel: made once by the provider, for all instances. Pure.

Each body is what a message NFT_MSG_NEWSETELEM (linux/netfilter/nf_tables.h) has beside the name of its table:
attributes in little-endian byte order, as nearly all machines have it; others do not greet with PACKED_FEATURE.
"""

from __future__ import annotations

import binascii
import struct
import sys
import zlib
from collections.abc import Iterable, Sequence

PACKED_FEATURE = "packed-tables"
"""In the greeting of an agent that takes elements in this form; others are sent text alone."""
MAX_PACKED_BYTES = 256 << 20
"""Of all bodies together: a million Services."""
_COMPRESSION = 1
_LENGTH = struct.Struct("<I")


def takes_packed() -> bool:
    """Whether this machine's kernel has the byte order of the bodies."""
    return sys.byteorder == "little"


def encode_packed(bodies: Iterable[bytes]) -> str:
    """For TableMessage.packed."""
    stream = zlib.compressobj(_COMPRESSION)
    parts = []
    for body in bodies:
        parts += [stream.compress(_LENGTH.pack(len(body))), stream.compress(body)]
    return binascii.b2a_base64(b"".join([*parts, stream.flush()]), newline=False).decode()


def decode_packed(packed: str) -> Sequence[bytes]:
    """The bodies. Raises ValueError for anything else."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(binascii.a2b_base64(packed, strict_mode=True), MAX_PACKED_BYTES)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"packed elements that cannot be read: {error}") from None
    if not stream.eof:
        raise ValueError("packed elements that are cut short, or too large")
    bodies, offset = [], 0
    while offset < len(data):
        start = offset + _LENGTH.size
        offset = start + (_LENGTH.unpack_from(data, offset)[0] if start <= len(data) else 0)
        if offset > len(data) or start > len(data):
            raise ValueError("packed elements that are cut short")
        bodies.append(data[start:offset])
    return bodies
