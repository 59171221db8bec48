"""The commit and the machine a run belongs to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def read_commit() -> str:
    """The short hash of HEAD, with `+changes` when product or test files differ from it; `unknown` outside git."""
    head = _git("rev-parse", "--short=10", "HEAD")
    if not head:
        return "unknown"
    return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no", "--", "vk_provider") else "")


def read_machine() -> str:
    """Processors, memory, kernel and distribution."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 1024**2 if memory else 0
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    name = pretty[1] if pretty else platform.system()
    return f"{os.cpu_count()} CPUs, {gib:.0f} GiB, Linux {platform.release()}, {name}"


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else ""
