"""What `vk-provider instances` shows: the rows as providers answer them, and the table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from vk_provider.ledger.report import MAX_CELL, clean, render_table
from vk_provider.rfc3339 import format_age, parse_time

MAX_NAME = 320
"""Of a namespace with a pod in it."""
LEAST_FOR = 12
"""Characters that are left of the column FOR, however narrow the terminal is."""
NOT_KNOWN = "-"
_RUNNING = ("pending", "running")
_NARROW = ("INSTANCE", "TYPE", "STATE", "FOR", "AGE", "USD/H")
_WIDE = (
    "INSTANCE",
    "TYPE",
    "ZONE",
    "CAPACITY",
    "STATE",
    "FOR",
    "WITNESS",
    "AGE",
    "DISKS(GIB)",
    "DISK USD/H",
    "USD/H",
)
_NUMBERS = ("AGE", "DISKS(GIB)", "DISK USD/H", "USD/H")


class InstanceRow(TypedDict):
    """One instance as a provider describes it, complete.

    usdPerHour:     with its disks, of a stopped one that of these alone; null when no price is known
    diskUsdPerHour: the part of it that is for network disks; null when these are not known
    rootGiB, dataGiB: network disks, null when they are not known; storeGiB: the disks within the machine
    pool:           that it was launched for, also when a pod has taken it since
    type:           "snapshot" for what is none: a store of prepared images, which is kept
    witness:        who says that it is the pod's: agent, status, tags or launch. Of one without a pod: agent (it is
                    empty), listing (it is stopped) or tags (it is of the pool)
    """

    instance: str
    type: str
    zone: str
    capacity: str
    state: str
    stage: str
    since: str
    usdPerHour: float | None
    diskUsdPerHour: float | None
    rootGiB: int | None
    storeGiB: int
    dataGiB: int | None
    pool: str
    namespace: str
    pod: str
    witness: str


class InstanceAnswer(TypedDict):
    instances: list[InstanceRow]


def render_instances(rows: Sequence[InstanceRow], now: float, *, is_wide: bool, width: int) -> str:
    """now: Unix seconds. width: of the terminal, where FOR is cut so that lines fit; 0 for no limit."""
    heads = _WIDE if is_wide else _NARROW
    cells = [_describe(row, now) for row in rows]
    lines = [[each[head] for head in heads] for each in cells]
    place = heads.index("FOR")
    if width and lines:
        widths = [max(len(clean(line[column])) for line in (heads, *lines)) for column in range(len(heads))]
        rest = sum(widths) - widths[place] + 2 * (len(heads) - 1)
        room = min(MAX_CELL, max(LEAST_FOR, width - rest))
        for line in lines:
            line[place] = _shorten(clean(line[place], MAX_NAME), room)
    left = len(heads) - sum(head in _NUMBERS for head in heads)
    return render_table(heads, lines, left)


def _describe(row: InstanceRow, now: float) -> Mapping[str, str]:
    owner = f"{row['namespace']}/{row['pod']}" if row["pod"] else ""
    if not owner:
        owner = f"pool {row['pool']}" if row["pool"] else row["namespace"] and f"{row['namespace']}/{NOT_KNOWN}"
    sizes = (row["rootGiB"], row["storeGiB"] or None, row["dataGiB"] or None)
    return {
        "INSTANCE": row["instance"],
        "TYPE": row["type"],
        "ZONE": row["zone"] or NOT_KNOWN,
        "CAPACITY": row["capacity"] or NOT_KNOWN,
        "STATE": (row["stage"] if row["state"] in _RUNNING else "") or row["state"],
        "FOR": owner or NOT_KNOWN,
        "WITNESS": row["witness"] or NOT_KNOWN,
        "AGE": _format_age(row["since"], now),
        "DISKS(GIB)": "/".join(NOT_KNOWN if size is None else str(size) for size in sizes),
        "DISK USD/H": _format_price(row["diskUsdPerHour"]),
        "USD/H": _format_price(row["usdPerHour"]),
    }


def _format_price(usd: float | None) -> str:
    return NOT_KNOWN if usd is None else f"{usd:.4f}"


def _format_age(since: str, now: float) -> str:
    try:
        return format_age(now - parse_time(since))
    except ValueError:
        return NOT_KNOWN


def _shorten(text: str, most: int) -> str:
    """The end of a pod's name tells it from others of its controller."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"
