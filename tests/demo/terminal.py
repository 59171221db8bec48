"""What the demo prints: steps with their time, and a transcript that reads like a terminal."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, cast

from tests.cluster.errors import ClusterError

LIMIT_S = 180.0
AFRESH = "see the lines above; `make demo-down` and then the same command start afresh"
_COLOR = sys.stdout.isatty()
_PLAIN_IN_DOUBLE_QUOTES = re.compile(r'(?:[^"$`!\\]|\\[a-z])*')


def paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOR else text


class Notes(io.TextIOBase):
    """Where a step says more than its line: a stream whose lines stand below the step's title."""

    used = False

    def write(self, text: str) -> int:
        if not self.used and _COLOR:
            sys.stdout.write("\n")  # the title's line is still open
        self.used = True
        sys.stdout.write(text)
        sys.stdout.flush()
        return len(text)


@contextmanager
def step(title: str) -> Iterator[TextIO]:
    """A line per step: what, and how long it took. On a terminal the line of the end replaces that of the begin."""
    started = time.monotonic()
    print(f"{paint('..', '2')} {title}", end="\n" if not _COLOR else "", flush=True)
    notes = Notes()
    yield cast(TextIO, notes)
    back = chr(13) if _COLOR and not notes.used else ""
    print(f"{back}{paint('ok', '32')} {title:<57} {time.monotonic() - started:6.1f} s", flush=True)


def heading(text: str) -> None:
    print(f"\n{paint('# ' + text, '1')}", flush=True)


def as_typed(words: Sequence[str]) -> str:
    """A command line for POSIX shells. shlex alone closes and opens quotes around each single one."""
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    return f'"{word}"' if "'" in word and _PLAIN_IN_DOUBLE_QUOTES.fullmatch(word) else shlex.quote(word)


def show(
    command: list[str],
    shown: str | None = None,
    *,
    environment: dict[str, str],
    stdin: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command, print it as a user would have typed it, and what it answered. Raises ClusterError."""
    line = shown or as_typed(command)
    print(paint(f"$ {line}", "36"), flush=True)
    try:
        result = subprocess.run(
            command,
            env=environment,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{line}` has not ended within {LIMIT_S:.0f} s", AFRESH) from None
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not installed", f"apt-get install {command[0]}, then make demo") from None
    print(result.stdout, end="" if result.stdout.endswith("\n") or not result.stdout else "\n", flush=True)
    if check and result.returncode != 0:
        raise ClusterError(f"`{line}` ended with exit code {result.returncode}", AFRESH)
    return result
