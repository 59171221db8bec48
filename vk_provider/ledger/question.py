"""A question about costs, and its answer from a store. Pure but for the store.

A question is put as text, as a command line or a query has it: `by` is a list of keys with commas, among them `label:`
with the key of a pod label; times are RFC 3339, a date, Unix seconds, or an age such as 7d, 12h or 90m.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from vk_provider.errors import VkError
from vk_provider.ledger.span import HOUR_S, NANOS, SNAPSHOT
from vk_provider.ledger.store import LedgerStore
from vk_provider.podmodel.labels import is_label_key
from vk_provider.rfc3339 import format_time, parse_time

DEFAULT_SINCE = "7d"
MAX_KEYS = 4
MAX_ROWS = 10_000
"""Of an answer; the dearest first. The rest is one row."""
_COLUMNS = {
    "namespace": "namespace",
    "node": "node",
    "type": "instance_type",
    "zone": "zone",
    "capacity": "capacity_type",
    "pod": "namespace || '/' || pod",
    "instance": "instance_id",
}
_LABEL = "label:"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": HOUR_S, "d": 24 * HOUR_S, "w": 7 * 24 * HOUR_S}
_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])")
REST = "(others)"


class CostQuestionError(VkError):
    """The question cannot be answered as it was put."""


@dataclass(frozen=True, slots=True)
class CostQuestion:
    """by: keys of the groups; since, until: Unix seconds; node: of this Node alone, "" for all; besides: not None:
    instead, of all Nodes but these, and what is of no Node."""

    by: tuple[str, ...]
    since: float
    until: float
    node: str = ""
    besides: tuple[str, ...] | None = None


class CostRow(TypedDict):
    """key: a value for each of `by`, "" for none. seconds: in which instances ran. usd: of instances with their
    disks, of the disks of stopped ones, and of stores of images; diskUsd: the part of it that is for disks and stores.
    estimatedUsd: the part of usd of instances whose end is not known. unpricedSeconds: the part of seconds for which no
    price is known."""

    key: list[str]
    instances: int
    seconds: float
    usd: float
    diskUsd: float
    estimatedUsd: float
    unpricedSeconds: float


class CostReport(TypedDict):
    """source: "ledger" or "tags"; since, until: RFC 3339; rows: the dearest first; total: key [] ."""

    source: str
    by: list[str]
    since: str
    until: str
    rows: list[CostRow]
    total: CostRow
    notes: list[str]


def parse_question(given: Mapping[str, str], now: float, node: str = "") -> CostQuestion:
    """given: by, since, until. Raises CostQuestionError."""
    by = tuple(key for key in given.get("by", "").split(",") if key) or ("namespace",)
    if len(by) > MAX_KEYS or len(set(by)) != len(by):
        raise CostQuestionError(f"--by takes up to {MAX_KEYS} different keys")
    for key in by:
        label = key.removeprefix(_LABEL) if key.startswith(_LABEL) else ""
        if key not in _COLUMNS and not is_label_key(label):
            known = ", ".join([*_COLUMNS, f"{_LABEL}KEY"])
            raise CostQuestionError(f"--by {key!r} is none of {known}")
    since = parse_moment(given.get("since") or DEFAULT_SINCE, now, "since")
    until = parse_moment(given["until"], now, "until") if given.get("until") else now
    if since >= until:
        raise CostQuestionError(f"--since {format_time(since)} is not before --until {format_time(until)}")
    return CostQuestion(by, since, min(until, now) if until > now > since else until, node)


def parse_moment(text: str, now: float, name: str) -> float:
    """Unix seconds. Raises CostQuestionError."""
    if match := _AGE.fullmatch(text):
        return now - float(match[1]) * _UNITS_S[match[2]]
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
            return float(text)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return parse_time(text)
    except (ValueError, OverflowError):
        raise CostQuestionError(
            f"--{name} {text!r} is no time: an age such as 7d, 12h or 90m, a date, or RFC 3339"
        ) from None


def answer(store: LedgerStore, question: CostQuestion, source: str = "ledger") -> CostReport:
    """Raises LedgerStoreError."""
    columns, values = [], list[object]()
    for key in question.by:
        if key in _COLUMNS:
            columns.append(_COLUMNS[key])
        else:
            columns.append("COALESCE(CASE WHEN json_valid(labels) THEN json_extract(labels, ?) END, '')")
            values.append(f'$."{key.removeprefix(_LABEL)}"')
    names = [f"key{number}" for number in range(len(columns))]
    chosen = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
    counted_until = store.counted_until
    nodes = (question.node,) if question.besides is None else question.besides
    where = "since < ? AND (until > ? OR until IS NULL)"
    if any(nodes):
        where += f" AND node {'IN' if question.besides is None else 'NOT IN'} ({', '.join('?' * len(nodes))})"
    sql = (
        f"SELECT {', '.join(names)}, COUNT(DISTINCT running), SUM(seconds * (1 - is_stopped)), "
        f"SUM(seconds * nanos) / {HOUR_S * NANOS}, SUM(seconds * disk_nanos) / {HOUR_S * NANOS}, "
        f"SUM(seconds * nanos * is_estimated) / {HOUR_S * NANOS}, "
        "SUM(seconds * (price_nanos IS NULL)) FROM ("
        f"SELECT {chosen}, CASE WHEN instance_type <> '{SNAPSHOT}' THEN instance_id END AS running, price_nanos, "
        "disk_nanos, COALESCE(price_nanos, 0) + disk_nanos AS nanos, "
        "is_stopped, is_estimated OR state = 'unsure' AS is_estimated, "
        "MAX(0.0, MIN(COALESCE(until, ?), ?) - MAX(since, ?)) AS seconds "
        f"FROM spans WHERE {where}) GROUP BY {', '.join(names)} ORDER BY {len(names) + 3} DESC, {', '.join(names)}"
    )
    values += [counted_until, question.until, question.since, question.until, question.since]
    values += nodes if any(nodes) else ()
    rows = [_to_row(row, len(names)) for row in store.ask(sql, values)]
    notes = _notes(rows, counted_until, question)
    total = add_up([], rows)
    if len(rows) > MAX_ROWS:
        rows = [*rows[:MAX_ROWS], add_up([REST] * len(names), rows[MAX_ROWS:])]
    return CostReport(
        source=source,
        by=list(question.by),
        since=format_time(question.since),
        until=format_time(question.until),
        rows=rows,
        total=total,
        notes=notes,
    )


def _to_row(row: tuple[object, ...], keys: int) -> CostRow:
    instances, seconds, usd, disk_usd, estimated, unpriced = row[keys:]
    return CostRow(
        key=[str(value) for value in row[:keys]],
        instances=int(instances),  # type: ignore[call-overload]
        seconds=float(seconds),  # type: ignore[arg-type]
        usd=float(usd),  # type: ignore[arg-type]
        diskUsd=float(disk_usd),  # type: ignore[arg-type]
        estimatedUsd=float(estimated),  # type: ignore[arg-type]
        unpricedSeconds=float(unpriced),  # type: ignore[arg-type]
    )


def add_up(key: list[str], rows: list[CostRow]) -> CostRow:
    """One row for many. An instance that had several owners counts once for each."""
    return CostRow(
        key=key,
        instances=sum(row["instances"] for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        usd=sum(row["usd"] for row in rows),
        diskUsd=sum(row["diskUsd"] for row in rows),
        estimatedUsd=sum(row["estimatedUsd"] for row in rows),
        unpricedSeconds=sum(row["unpricedSeconds"] for row in rows),
    )


def _notes(rows: list[CostRow], counted_until: float, question: CostQuestion) -> list[str]:
    found = []
    if any(row["estimatedUsd"] for row in rows):
        found.append(
            "estimated: the end of some instances is not known; they are counted until they were last seen to run"
        )
    if any(row["unpricedSeconds"] for row in rows):
        found.append("unpriced: for some instances no price is known; their time is counted, their cost is not")
    if 0.0 < counted_until < question.until - 60.0:
        found.append(f"counted until {format_time(counted_until)}")
    return found


def merge(reports: list[CostReport]) -> CostReport:
    """Answers of several providers to one question, as one. At least one."""
    rows: dict[tuple[str, ...], list[CostRow]] = {}
    for report in reports:
        for row in report["rows"]:
            rows.setdefault(tuple(row["key"]), []).append(row)
    merged = sorted(
        (add_up(list(key), found) for key, found in rows.items()), key=lambda row: (-row["usd"], row["key"])
    )
    notes = list(dict.fromkeys(note for report in reports for note in report["notes"]))
    total = add_up([], [report["total"] for report in reports])
    return CostReport(**{**reports[0], "rows": merged, "total": total, "notes": notes})
