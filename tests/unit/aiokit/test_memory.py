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
    return run(PROGRAM, how)


def test_a_large_block_that_is_free_goes_back() -> None:
    assert measure("returned") < 512 << 10 < measure("kept")  # else there is nothing to return here


READS = """
import os, resource, sys
from vk_provider.aiokit.memory import keep_spare, return_large_blocks

if sys.argv[1] == "spare":
    return_large_blocks(1 << 20)
    keep_spare(4 << 20)
else:
    return_large_blocks()
reader, writer = os.pipe()

def read():
    os.write(writer, b"x" * 1000)
    os.read(reader, 256 << 10)

read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(1000):
    read()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(program: str, how: str) -> int:
    command = [sys.executable, "-c", program, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_what_every_read_wants_for_a_moment_is_not_asked_of_the_machine_each_time() -> None:
    assert run(READS, "spare") < 100 < 1000 <= run(READS, "returned")


THREADS = """
import sys, threading
from pathlib import Path
from vk_provider.aiokit.memory import share_one_arena

if sys.argv[1] == "one":
    share_one_arena()

def read_reserved_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmSize"))

threading.stack_size(1 << 20)
before = read_reserved_kb()
begun, ended = threading.Barrier(5), threading.Barrier(5)

def work():
    made = bytearray(100_000)
    begun.wait()
    ended.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
begun.wait()
print(read_reserved_kb() - before)
ended.wait()
"""


def test_threads_do_not_keep_memory_each_for_itself() -> None:
    assert run(THREADS, "one") < 32 << 10 < 64 << 10 < run(THREADS, "each")
