"""The ledger's SQLite file. Every call blocks: one thread makes them all (`ledger`).

A transaction holds what has changed and the moment until which all that runs was counted (`counted_until`), so that a
crash between any two writes loses what came after the last one, and counts nothing twice. A span that runs has no end
of its own: it ends at `counted_until`, whoever asks.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from vk_provider.errors import VkError
from vk_provider.ledger.span import SNAPSHOT, Owner, Span, SpanState

SCHEMA = 3
RECENT_S = 3600.0
"""What ended longer before is not given to the meter again, but for spans whose price was not final."""
UNPRICED_S = 7 * 24 * 3600.0
"""These, too, are given up then."""
PRUNE_ROWS = 20_000
"""Removed in one transaction."""
BUSY_S = 5.0
MAX_NANOS = 10**15
"""An hour: a million USD."""
_MISSING_META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID"
_MISSING_TABLES = """
CREATE TABLE IF NOT EXISTS spans (
    instance_id TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL,
    state TEXT NOT NULL,
    node TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    zone TEXT NOT NULL,
    capacity_type TEXT NOT NULL,
    price_nanos INTEGER,
    namespace TEXT NOT NULL,
    pod TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    labels TEXT NOT NULL,
    is_estimated INTEGER NOT NULL,
    disk_nanos INTEGER NOT NULL DEFAULT 0,
    is_stopped INTEGER NOT NULL DEFAULT 0,
    burst_nanos INTEGER NOT NULL DEFAULT 0,
    least_until REAL NOT NULL DEFAULT 0,
    ran_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, since)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spans_by_end ON spans (until);
"""
_ADDED = {
    "disk_nanos": "INTEGER",
    "is_stopped": "INTEGER",
    "burst_nanos": "INTEGER",
    "least_until": "REAL",
    "ran_until": "REAL",
}
"""Columns that files of earlier schemas lack. `until` is when an instance is not paid for any more, ran_until when it
has ended, 0 where that is the same."""
_COLUMNS = (
    "instance_id, since, until, state, node, instance_type, zone, capacity_type, price_nanos, namespace, pod, pod_uid, "
    "labels, is_estimated, disk_nanos, is_stopped, burst_nanos, least_until, ran_until"
)
_VALUES = ", ".join(f"?{number}" for number in range(1, 20))
_WRITE = f"INSERT OR REPLACE INTO spans ({_COLUMNS}) VALUES ({_VALUES})"
_ADD = (
    f"INSERT OR IGNORE INTO spans ({_COLUMNS}) SELECT {_VALUES} WHERE NOT EXISTS "
    "(SELECT 1 FROM spans WHERE instance_id = ?1 AND since < ?3 AND COALESCE(until, 1e18) > ?2)"
)
"""Of an instance that was seen when it had ended: only where nothing is known of that time."""


class LedgerStoreError(VkError):
    """The file cannot be used: str() says which, why and what can be done."""


class LedgerStore:
    """path: of the file, or ":memory:". owner: whose instances it is about (cloud.owner). damaged: spans that the last
    `load` could not read."""

    def __init__(self, path: str, owner: str) -> None:
        self.path, self._owner = path, owner
        self._connection: sqlite3.Connection | None = None
        self.damaged = 0

    def open(self) -> str:
        """Returns what was done about a file that could not be read, "" for nothing. Raises LedgerStoreError."""
        try:
            try:
                self._open()
                return ""
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) or self.path == ":memory:":
                    raise
                aside = self._set_aside()
                self._open()
                return f"{self.path} was corrupt ({error}); it is {aside} now, and a new one is begun"
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._explain(error) from error

    def _open(self) -> None:
        if self.path != ":memory:":
            Path(self.path).parent.mkdir(0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._connection = connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            self.close()
            raise LedgerStoreError(
                f"{self.path} has schema {version}, this version of vk-provider knows {SCHEMA}: it is left alone; use "
                "the newer version again, or another ledger.file"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check finds it damaged")
        connection.execute(_MISSING_META)
        owner = self._read_meta("owner")
        if owner not in (None, self._owner):
            self.close()
            raise LedgerStoreError(
                f"{self.path} is the ledger of cloud.owner {owner!r}, not of {self._owner!r}: set another ledger.file"
            )
        connection.executescript(_MISSING_TABLES)
        known = {row[1] for row in connection.execute("PRAGMA table_info(spans)")}
        for column, kind in _ADDED.items():
            if column not in known:
                connection.execute(f"ALTER TABLE spans ADD COLUMN {column} {kind} NOT NULL DEFAULT 0")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")  # last: a takeover that was cut off goes on
        self._write_meta("owner", self._owner)

    def _set_aside(self) -> str:
        self.close()
        aside = f"{self.path}.corrupt"
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)
        return aside

    def load(self) -> list[Span]:
        """What ran at the end, and what ended shortly before, the oldest first; and the stores of images that nobody
        has looked at since an earlier process, however long ago."""
        until = self.counted_until
        with self._errors():
            known = self._read_number("unpriced_until") or until
            unpriced = max(until - UNPRICED_S, known)
            rows = self._connected.execute(
                f"SELECT {_COLUMNS} FROM spans WHERE until IS NULL OR until > ? "
                "OR (state = ? AND instance_type = ?) ORDER BY since",
                (min(until - RECENT_S, unpriced - 1.0), SpanState.UNSURE.value, SNAPSHOT),
            ).fetchall()
        found, self.damaged = list[Span](), 0
        for row in rows:
            try:
                found.append(_read_row(row, until))
            except (ValueError, TypeError, OverflowError, RecursionError):
                # A column has any type, and others may have written into it.
                self.damaged += 1
        return found

    @property
    def counted_until(self) -> float:
        with self._errors():
            return self._read_number("counted_until")

    def write(self, spans: Iterable[Span], counted_until: float, unpriced_until: float | None = None) -> None:
        """All or nothing. unpriced_until: the earliest end of a span whose price is not final. Raises
        LedgerStoreError."""
        connection, known = self._connected, list(spans)
        with self._errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(_WRITE, (_row(span) for span in known if not span.is_late))
                connection.executemany(_ADD, (_row(span) for span in known if span.is_late))
                self._write_meta("counted_until", counted_until)
                self._write_meta("unpriced_until", unpriced_until)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def prune(self, before: float, max_bytes: int) -> int:
        """Remove what ended before, and the oldest while the file has more pages in use. Returns how many."""
        removed = 0
        with self._errors():
            removed += self._remove("until < ?", (before,))
            while self.used_bytes > max_bytes:
                some = self._remove("until IS NOT NULL", ())
                removed += some
                if not some:
                    break
        return removed

    def _remove(self, condition: str, values: Sequence[float]) -> int:
        """Some thousands, the oldest first."""
        return self._connected.execute(
            "DELETE FROM spans WHERE (instance_id, since) IN (SELECT instance_id, since FROM spans "
            f"WHERE {condition} ORDER BY until LIMIT {PRUNE_ROWS})",
            values,
        ).rowcount

    @property
    def used_bytes(self) -> int:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (self._connected.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return int((pages - free) * size)

    def ask(self, sql: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        with self._errors():
            return self._connected.execute(sql, tuple(values)).fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- within ------------------------------------------------------------------------------------------------------

    @property
    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LedgerStoreError(f"{self.path} is not open")
        return self._connection

    def _read_meta(self, name: str) -> object:
        row = self._connected.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def _read_number(self, name: str) -> float:
        """0.0 where there is none."""
        try:
            return float(self._read_meta(name) or 0.0)  # type: ignore[arg-type]  # a column has any type
        except (ValueError, TypeError):
            return 0.0

    def _write_meta(self, name: str, value: object) -> None:
        self._connected.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _errors(self) -> _Errors:
        return _Errors(self)

    def _explain(self, error: Exception) -> LedgerStoreError:
        advice = "look at the disk, or set another ledger.file"
        if isinstance(error, OSError):
            text = error.strerror or str(error)
        else:
            text = str(error)
        if "full" in text:
            advice = "make room on the disk, or lower ledger.max_bytes"
        elif "malformed" in text or "not a database" in text:
            advice = "it is set aside at the next start"
        return LedgerStoreError(f"the ledger {self.path} cannot be used: {text}; {advice}")


class _Errors:
    """Makes LedgerStoreErrors of SQLite's."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error | OSError):
            raise self._store._explain(error) from error


def open_for_reading(path: str) -> LedgerStore:
    """A file that a provider may be writing. Raises LedgerStoreError."""
    store = LedgerStore(path, "")
    if not os.path.exists(path):
        raise LedgerStoreError(f"there is no ledger {path}: ask the provider, or name its ledger.file")
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=BUSY_S)) as probe:
            (version,) = probe.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA:
            raise LedgerStoreError(f"{path} has schema {version}, this version of vk-provider knows {SCHEMA}")
        store._connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=BUSY_S)
    except sqlite3.Error as error:
        raise store._explain(error) from error
    return store


def _row(span: Span) -> tuple[object, ...]:
    owner = span.owner
    return (
        span.instance_id,
        span.since,
        None if span.state is SpanState.RUNNING else span.paid_until,
        span.state.value,
        span.node,
        span.instance_type,
        span.zone,
        span.capacity_type,
        span.price_nanos,
        owner.namespace,
        owner.pod,
        owner.pod_uid,
        json.dumps(dict(owner.labels), separators=(",", ":")),
        int(span.is_estimated),
        span.disk_nanos,
        int(span.is_stopped),
        span.burst_nanos,
        span.least_until,
        0.0 if span.state is SpanState.RUNNING or span.paid_until == span.until else span.until,
    )


def _read_row(row: tuple[object, ...], counted_until: float) -> Span:
    instance_id, since, until, state, node, kind, zone, capacity, price, *rest = row
    namespace, pod, uid, labels, estimated, disk_nanos, is_stopped, burst_nanos, least_until, ran_until = rest
    began = float(since)  # type: ignore[arg-type]
    return Span(
        str(instance_id),
        began,
        max(began, counted_until) if until is None else float(ran_until or until),  # type: ignore[arg-type]
        SpanState(str(state)),
        str(node),
        str(kind),
        str(zone),
        str(capacity),
        None if price is None else _read_nanos(price),
        Owner(str(namespace), str(pod), str(uid), dict(json.loads(str(labels)))),
        bool(estimated),
        disk_nanos=_read_nanos(disk_nanos),
        is_stopped=bool(is_stopped),
        burst_nanos=_read_nanos(burst_nanos),
        least_until=float(least_until),  # type: ignore[arg-type]
    )


def _read_nanos(value: object) -> int:
    """Raises ValueError for what no price is, and for what could not be written again."""
    nanos = int(value)  # type: ignore[call-overload]
    if not 0 <= nanos < MAX_NANOS:
        raise ValueError(f"{nanos} nano-USD an hour")
    return int(nanos)
