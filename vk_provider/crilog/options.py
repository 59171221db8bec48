"""The options of a log request, decoded and validated as a kubelet does (core/v1 PodLogOptions)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from vk_provider.crilog.line import LogLineError, parse_timestamp_ns


class LogOptionsError(ValueError):
    """The request is refused: `status` is the HTTP status, str() the body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status


UNDECODABLE = '{"message": "Unable to decode query."}'
_STREAMS = ("All", "Stdout", "Stderr")
INVALID = '{"message": "Invalid request."}'

_INTEGER = re.compile(r"[-+]?[0-9]{1,20}", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[-+]([01]\d|2[0-4]):[0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What part of a log is wanted. None: no limit. since_time_ns: nanoseconds since the epoch."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_seconds: int | None = None
    since_time_ns: int | None = None

    def since_ns(self, now_ns: int) -> int | None:
        """Lines older than this are left out."""
        if self.since_seconds is not None:
            return now_ns - self.since_seconds * 1_000_000_000
        return self.since_time_ns


def _parse_bool(text: str | None) -> bool:
    return text is not None and text.lower() not in ("false", "0")


def _parse_int(text: str | None) -> int | None:
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise LogOptionsError(400, UNDECODABLE)
    return int(text)


def _parse_time(text: str | None) -> int | None:
    """None when absent; an empty one and the "null" of old clients are the beginning of time."""
    if text is None:
        return None
    if text in ("", "null"):
        return 0
    # A "+" of the zone arrives as a blank when the client did not escape it.
    text = text.replace(" ", "+")
    try:
        if not _RFC3339.fullmatch(text):
            raise LogLineError("not RFC 3339")
        # The 31st of February and the 25th hour, which the faster parser of log lines lets pass.
        datetime.fromisoformat(text[:19])
        return parse_timestamp_ns(text.encode())
    except (LogLineError, ValueError):
        raise LogOptionsError(400, UNDECODABLE) from None


def parse_log_options(query: Iterable[tuple[str, str]]) -> LogOptions:
    """Decode the query parameters of a containerLogs request; the first value of a repeated name counts.

    Raises LogOptionsError: 400 undecodable, 422 invalid. Whether a valid `stream` is served is checked by
    `refuse_stream`, which a kubelet does after it has looked the pod up.
    """
    values: dict[str, str] = {}
    for name, value in query:
        values.setdefault(name, value)
    legacy_tail = values.get("tail")
    if legacy_tail:
        values["tailLines"] = legacy_tail
        if legacy_tail == "all":
            del values["tailLines"]
    options = LogOptions(
        follow=_parse_bool(values.get("follow")),
        previous=_parse_bool(values.get("previous")),
        timestamps=_parse_bool(values.get("timestamps")),
        tail_lines=_parse_int(values.get("tailLines")),
        limit_bytes=_parse_int(values.get("limitBytes")),
        since_seconds=_parse_int(values.get("sinceSeconds")),
        since_time_ns=_parse_time(values.get("sinceTime")),
    )
    stream = values.get("stream", "All")
    if (
        stream not in _STREAMS
        or (stream != "All" and options.tail_lines is not None)
        or (options.tail_lines is not None and options.tail_lines < 0)
        or (options.limit_bytes is not None and options.limit_bytes < 1)
        or (options.since_seconds is not None and options.since_seconds < 1)
        or (options.since_seconds is not None and options.since_time_ns is not None)
    ):
        raise LogOptionsError(422, INVALID)
    return options


def refuse_stream(query: Iterable[tuple[str, str]]) -> None:
    """Only the stream "All" is served (the gate PodLogsQuerySplitStreams is off). Raises LogOptionsError 400."""
    stream = next((value for name, value in query if name == "stream"), "All")
    if stream != "All":
        raise LogOptionsError(
            400,
            f'unable to return the given log stream: "{stream}". '
            "Please enable PodLogsQuerySplitStreams feature gate in kubelet",
        )
