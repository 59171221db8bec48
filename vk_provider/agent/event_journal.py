"""Events that the provider has not acknowledged, on the instance's disk: a killed agent does not lose them.

A file of JSON lines: an event, or {"acknowledged": seq}. A line is appended when an event is recorded or counted up and
when the provider acknowledges, nothing else is written: neither a heartbeat nor a sample of stats. The file is
rewritten when everything is acknowledged and when it has grown too long. Writes go into the page cache (well below a
millisecond); when the disk is full, a crash loses events, and nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import orjson

from vk_provider.wire.session import EventMessage

log = logging.getLogger(__name__)

_SLACK_LINES = 500
"""Obsolete lines before the file is rewritten."""


class EventJournal:
    """`load` once, then `add` and `acknowledge`; both get the events that must be kept."""

    def __init__(self, path: Path, slack_lines: int = _SLACK_LINES) -> None:
        self._path = path
        self._slack_lines = slack_lines
        self._lines = 0
        self._acknowledged = 0
        self._failing = False

    def load(self) -> tuple[list[EventMessage], int]:
        """Return the events not acknowledged, and the highest number that was. Invalid lines are skipped."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            log.error("event journal %s is unreadable, starting without it: %s", self._path, error)
            return [], 0
        documents = [document for line in lines if (document := _parse(line)) is not None]
        self._lines = len(lines)
        self._acknowledged = max((d["acknowledged"] for d in documents if "acknowledged" in d), default=0)
        events = {d["seq"]: cast(EventMessage, d) for d in documents if d.get("type") == "event"}
        return [event for seq, event in events.items() if seq > self._acknowledged], self._acknowledged

    def add(self, event: EventMessage, kept: Collection[EventMessage]) -> None:
        """Keep `event`, one of `kept`: a new one, or one that was counted up (its last line is valid)."""
        self._write(cast(dict[str, Any], event), kept)

    def acknowledge(self, seq: int, kept: Collection[EventMessage]) -> None:
        """Events up to `seq` need not be kept any more."""
        self._acknowledged = max(self._acknowledged, seq)
        self._write({"acknowledged": self._acknowledged}, kept)

    def _write(self, line: dict[str, Any], kept: Collection[EventMessage]) -> None:
        try:
            if not kept or self._failing or self._lines >= len(kept) + self._slack_lines:
                self._replace(kept)
            else:
                self._append(line)
        except OSError as error:
            if not self._failing:
                log.error("events are not kept on the disk: %s", error)
            self._failing = True  # the file may end in half a line: the next write replaces it
        else:
            self._failing = False

    def _append(self, line: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._open(self._path, os.O_APPEND), "wb") as file:
            file.write(orjson.dumps(line) + b"\n")
        self._lines += 1

    def _replace(self, kept: Collection[EventMessage]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines: list[Any] = [{"acknowledged": self._acknowledged}, *kept]
        temporary = self._path.with_name(f"{self._path.name}.new")
        with open(self._open(temporary, os.O_TRUNC), "wb") as file:
            file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        os.replace(temporary, self._path)
        self._lines = len(lines)

    @staticmethod
    def _open(path: Path, flags: int) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    number = document.get("seq") if document.get("type") == "event" else document.get("acknowledged")
    return document if isinstance(number, int) else None
