"""Runs seeds, each in a process of its own.

python -m tests.simulation                       seeds 0 to 199
python -m tests.simulation --seeds 1000          as many, from 0
python -m tests.simulation --seed 17 [--trace]   one, the plan and what happened are shown
python -m tests.simulation --seed 17 --fault lost-ready
python -m tests.simulation --crashes launch      killed at every step of it: see crashes.SCENARIOS; "all" for all

Exit code: 0 when every invariant held, 1 when not. A result is one line of JSON with --json.
"""

from __future__ import annotations

import os
import sys

_AGAIN = {"PYTHONHASHSEED": "0"}
"""The order of sets of texts belongs to what a seed decides."""

if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in _AGAIN.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, **_AGAIN})
    from tests.simulation import clock

    clock.install()
    from tests.simulation.runner import main

    sys.exit(main(sys.argv[1:]))
