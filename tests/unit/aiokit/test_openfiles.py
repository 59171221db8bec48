"""The limit of open files, in processes of its own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, subprocess, sys
from vk_provider.aiokit import openfiles

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
openfiles.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
child = subprocess.Popen(["sleep", "60"])
openfiles.restore_limit(child.pid)
print(resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (256, hard))
child.kill()
child.wait()
"""


def test_it_is_raised_for_the_process_and_not_for_what_it_starts_for_pods() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True"]
