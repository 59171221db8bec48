"""Progress of a long step on a terminal or in a log."""

from __future__ import annotations

import time
from typing import TextIO


class Progress:
    """One line that ticks: rewritten each second on a terminal, a new line every 15 s in a log."""

    def __init__(self, what: str, out: TextIO) -> None:
        self.what = what
        self._out = out
        self._tty = out.isatty()
        self._started = time.monotonic()
        self._said = float("-inf")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._started

    def tick(self, detail: str = "") -> None:
        """Say where the step stands; cheap to call often."""
        now = time.monotonic()
        if now - self._said < (1 if self._tty else 15):
            return
        self._said = now
        line = f"{self.what}: {self.elapsed_s:.0f} s{', ' if detail else ''}{detail}"
        print(f"\r{line[:118]:<118}" if self._tty else line, end="" if self._tty else "\n", file=self._out, flush=True)

    def done(self, detail: str) -> None:
        """Close the line."""
        line = f"{self.what}: {detail} in {self.elapsed_s:.1f} s"
        print(f"\r{line:<118}" if self._tty else line, file=self._out, flush=True)
