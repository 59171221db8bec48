"""What a process keeps of large blocks, each in a process of its own: the setting is for good."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from pathlib import Path
from vk_provider.aiokit.memory import return_large_blocks

if sys.argv[1] == "returned":
    return_large_blocks()

def read_private_bytes():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))

def work():
    bytes(3 << 20).decode()

bytes(4 << 20)
before = read_private_bytes()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(read_private_bytes() - before)
"""


def measure(how: str) -> int:
    """Bytes that are left of 6 MiB after they were freed."""
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_a_large_block_that_is_free_goes_back() -> None:
    assert measure("returned") < 512 << 10 < measure("kept")  # else there is nothing to return here
