"""What the demo prints: steps with their time, and a transcript that reads like a terminal."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_COLOR = sys.stdout.isatty()


def paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOR else text


@contextmanager
def step(title: str) -> Iterator[None]:
    """A line per step: what, and how long it took."""
    started = time.monotonic()
    print(f"{paint('..', '2')} {title}", end="\n" if not _COLOR else "", flush=True)
    yield
    mark = f"{paint('ok', '32')} {title}"
    print(f"{chr(13) if _COLOR else ''}{mark:<60} {time.monotonic() - started:6.1f} s", flush=True)


def heading(text: str) -> None:
    print(f"\n{paint('# ' + text, '1')}", flush=True)


def show(command: list[str], shown: str | None = None, *, environment: dict[str, str], stdin: str | None = None,
         check: bool = True) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a command, print it as a user would have typed it, and what it answered."""
    print(paint(f"$ {shown or shlex.join(command)}", "36"), flush=True)
    result = subprocess.run(command, env=environment, input=stdin, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)  # fmt: skip
    print(result.stdout, end="" if result.stdout.endswith("\n") or not result.stdout else "\n", flush=True)
    if check and result.returncode != 0:
        raise SystemExit(f"the command above failed with exit code {result.returncode}")
    return result
