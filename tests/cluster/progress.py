"""Progress of a long step on a terminal or in a log."""

from __future__ import annotations

import time
from typing import TextIO


class Progress:
    """One line that ticks: rewritten each second on a terminal; in a log a new line every 15 s, later every minute."""

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
        if now - self._said < (1 if self._tty else 15 if self.elapsed_s < 60 else 60):
            return
        self._said = now
        line = f"{self.what}: {self.elapsed_s:.0f} s{', ' if detail else ''}{detail}"
        print(f"\r{line[:118]:<118}" if self._tty else line, end="" if self._tty else "\n", file=self._out, flush=True)

    def end_line(self) -> None:
        """Leave the line as it is: what comes next begins on one of its own."""
        if self._tty and self._said > 0:
            print(file=self._out, flush=True)
        self._said = float("-inf")

    def done(self, detail: str) -> None:
        """Close the line."""
        line = f"{self.what}: {detail} in {self.elapsed_s:.1f} s"
        print(f"\r{line:<118}" if self._tty else line, file=self._out, flush=True)
        self._said = float("-inf")
