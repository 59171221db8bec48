"""One JSON document on the instance's disk, replaced atomically: the state that a restarted agent needs.

It may hold secrets (the pod's references), so the file is readable by root only. A new file is renamed over the old
one: a crash of the agent leaves the one or the other. `save_async` also survives a power loss.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)


class Journal:
    """Reads and writes the document at `path`. The newest save wins, in any order of the threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._taken = 0
        self._written = 0

    def load(self) -> dict[str, Any]:
        """The last document saved; {} when there is none or it cannot be read (which is logged)."""
        try:
            document = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            log.error("journal %s is unreadable, starting without it: %s", self._path, error)
            return {}
        return document if isinstance(document, dict) else {}

    def save(self, document: dict[str, Any]) -> None:
        """Replace the document. Blocks for a write into the page cache (well below a millisecond)."""
        self._write(self._take_number(), orjson.dumps(document), sync=False)

    async def save_async(self, document: dict[str, Any]) -> None:
        """Replace the document and return when it is on the disk; the loop is not blocked."""
        await asyncio.to_thread(self._write, self._take_number(), orjson.dumps(document), sync=True)

    def _take_number(self) -> int:
        self._taken += 1
        return self._taken

    def _write(self, number: int, data: bytes, *, sync: bool) -> None:
        with self._lock:
            if number < self._written:
                return
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._path.with_name(f"{self._path.name}.new")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, self._path)
            self._written = number
