"""What happened, for people and as a digest."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable


class Trace:
    """Everything that anybody outside of the provider sees, in order. `lines` only where somebody wants to read it."""

    def __init__(self, keep: bool) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = [] if keep else None

    def note(self, *words: object) -> None:
        now = asyncio.get_running_loop().time()
        line = f"{now:.6f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class TraceHandler(logging.Handler):
    """on_record: for each record. Records become lines where somebody reads them."""

    def __init__(self, trace: Trace, on_record: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.INFO if trace.lines is not None else logging.WARNING)
        self._trace, self._on_record = trace, on_record

    def emit(self, record: logging.LogRecord) -> None:
        self._on_record(record)
        if self._trace.lines is not None:
            self._trace.lines.append(
                f"    {time.monotonic():.6f} {record.levelname} {record.name}: {record.getMessage()}"
            )
