"""Times as the Kubernetes API writes them: RFC 3339 in UTC (metav1.Time, metav1.MicroTime), and ages. Pure."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from functools import lru_cache


def format_time(timestamp: float | None = None) -> str:
    """Second precision, as metav1.Time; `timestamp` in seconds since the epoch, now when None."""
    return _format_second(math.floor(time.time() if timestamp is None else timestamp))


@lru_cache(maxsize=8)
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_milli_time(timestamp: float | None = None) -> str:
    """Millisecond precision."""
    moment = datetime.fromtimestamp(time.time() if timestamp is None else timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_micro_time(timestamp: float | None = None) -> str:
    """Microsecond precision, as metav1.MicroTime."""
    return datetime.fromtimestamp(time.time() if timestamp is None else timestamp, UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )


def format_nanos(timestamp_ns: int) -> str:
    """Nanosecond precision with all nine digits; `timestamp_ns` in nanoseconds since the epoch."""
    seconds, nanos = divmod(timestamp_ns, 1_000_000_000)
    return f"{format_time(seconds)[:-1]}.{nanos:09d}Z"


def format_age(age_s: float) -> str:
    """As kubectl's tables have it: the largest unit of which there are two."""
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if age_s >= 2 * seconds:
            return f"{int(age_s // seconds)}{unit}"
    return f"{max(0, int(age_s))}s"


def parse_time(text: str) -> float:
    """Seconds since the epoch; raises ValueError when `text` is not RFC 3339. A time without zone is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
