"""Runs a short command and turns its failure into one line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class CommandError(Exception):
    """A command failed; str() holds the command and the last line of its error output."""


def run_command(argv: Sequence[str], *, text: str | None = None, timeout_s: float = 60.0) -> str:
    """Run to the end (blocking: call it in a thread) and return its standard output."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        raise CommandError(f"{argv[0]}: command not found") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(argv)}: no end after {timeout_s:g} s") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CommandError(f"{' '.join(argv)}: {lines[-1].strip() if lines else f'exit code {done.returncode}'}")
    return done.stdout
