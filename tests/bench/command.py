"""What every command that measures does around it: one at a time, and a clear end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from tests.cluster.cache import cache_dir, only_one
from tests.cluster.errors import ClusterError


def run_alone(name: str, measure: Callable[[], int]) -> int:
    """The exit code of `measure`; 3 with a line on stderr when the machine cannot run it, or another run of `make NAME`
    is at work; 130 when interrupted. SIGTERM raises SystemExit, so what was started is taken down."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with only_one(cache_dir() / f"{name}.lock", f"`make {name}`"):
            return measure()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; what it started is taken down", file=sys.stderr)
        return 130
