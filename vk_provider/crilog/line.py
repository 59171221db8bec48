"""One line of a CRI log file: `2016-10-06T00:17:09.669794202Z stdout F content\\n` (KEP cri-container-log-format)."""

from __future__ import annotations

import calendar
from functools import lru_cache
from typing import NamedTuple


class LogLineError(ValueError):
    """The line is not in CRI log format."""


class LogLine(NamedTuple):
    """timestamp: as written in the file; content: with its newline unless the line is partial or was cut short."""

    timestamp: bytes
    stream: bytes
    content: bytes


def parse_line(raw: bytes) -> LogLine:
    """Parse one line including its newline, if it has one. Raises LogLineError."""
    try:
        timestamp, stream, tags, content = raw.split(b" ", 3)
    except ValueError:
        raise LogLineError("timestamp, stream type or log tag is not found") from None
    if stream != b"stdout" and stream != b"stderr":
        raise LogLineError(f"unexpected stream type {stream!r}")
    if len(timestamp) < 20 or timestamp[10:11] != b"T":
        raise LogLineError("unexpected timestamp format")
    # Tags are separated by ":", the first says partial (P) or full (F); others are for later versions.
    if tags[:1] == b"P" and (len(tags) == 1 or tags[1:2] == b":") and content.endswith(b"\n"):
        content = content[:-1]
    return LogLine(timestamp, stream, content)


@lru_cache(maxsize=256)
def _epoch_seconds(text: bytes) -> int:
    try:
        return calendar.timegm(
            (int(text[0:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19]))
        )
    except ValueError:
        raise LogLineError("unexpected timestamp format") from None


def _split_zone(text: bytes) -> tuple[bytes, bytes]:
    """Split what follows the seconds into fraction digits and zone."""
    if text.endswith(b"Z"):
        return text[1:-1], b"Z"
    zone = text[-6:]
    if len(zone) != 6 or zone[:1] not in (b"+", b"-") or zone[3:4] != b":":
        raise LogLineError("unexpected timestamp format")
    return text[1:-6], zone


def parse_timestamp_ns(text: bytes) -> int:
    """RFC 3339 with up to nanoseconds -> nanoseconds since the epoch. Raises LogLineError."""
    fraction, zone = _split_zone(text[19:])
    if fraction and not fraction.isdigit():
        raise LogLineError("unexpected timestamp format")
    seconds = _epoch_seconds(text[:19])
    if zone != b"Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += offset if zone[:1] == b"-" else -offset
    return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))


def format_timestamp(text: bytes) -> bytes:
    """The same moment with exactly nine digits of fraction, as kubelets print it. Raises LogLineError."""
    fraction, zone = _split_zone(text[19:])
    return text[:19] + b"." + fraction[:9].ljust(9, b"0") + zone
