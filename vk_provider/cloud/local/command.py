"""Runs a short command and turns its failure into one line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

WATCH_S = 0.2
"""Between two looks at what a command does."""
WATCH_SHARE = 10
"""A look that takes long is followed by a pause of so many times its own time."""


class CommandError(Exception):
    """A command failed; str() holds the command and the last line of its error output."""


def run_command(
    argv: Sequence[str], *, text: str | None = None, timeout_s: float = 60.0, watch: Callable[[], None] | None = None
) -> str:
    """Run to the end (blocking: call it in a thread) and return its standard output. watch: called while it runs, and
    once more at its end; what it raises kills the command and is raised."""
    try:
        if watch is None:
            done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)
        else:
            done = _run_watched(argv, text, timeout_s, watch)
    except FileNotFoundError:
        raise CommandError(f"{argv[0]}: command not found") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(argv)}: no end after {timeout_s:g} s") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CommandError(f"{' '.join(argv)}: {lines[-1].strip() if lines else f'exit code {done.returncode}'}")
    return done.stdout


def _run_watched(
    argv: Sequence[str], text: str | None, timeout_s: float, watch: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run."""
    until, pause_s, pipe = time.monotonic() + timeout_s, WATCH_S, subprocess.PIPE
    given = None if text is None else pipe
    with subprocess.Popen(argv, stdin=given, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(text, timeout=pause_s)
                    break
                except subprocess.TimeoutExpired:
                    text = None  # it is under way
                    looks_at = time.monotonic()
                    if looks_at > until:
                        raise
                    watch()
                    pause_s = max(WATCH_S, WATCH_SHARE * (time.monotonic() - looks_at))
            watch()
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)
