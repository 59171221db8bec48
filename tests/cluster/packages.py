"""The Debian packages of packages.txt: which are missing, and installing them without starting their services.

`python -m tests.cluster.packages check|install|list`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress

PACKAGE_LIST = Path(__file__).with_name("packages.txt")
POLICY_RC_D = Path("/usr/sbin/policy-rc.d")
POLICY = "#!/bin/sh\n# of vk-provider's tests: no service starts while its package is installed\nexit 101\n"
SERVICES = ("containerd", "docker-registry")
"""What these packages would start at the next boot; the registry's takes the port of ours."""
INSTALL = "python -m tests.cluster.packages install"
_TAIL = 15


def parse_package_list(text: str) -> list[str]:
    """Package names of a list with `#` comments and blank lines."""
    names = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [name for name in names if name]


def find_missing(packages: list[str]) -> list[str]:
    """Those of `packages` that dpkg does not have installed."""
    query = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """While open, Debian's maintainer scripts start no service (policy-rc.d answers 101, "forbidden").

    A policy the administrator has written is kept as it is; one of ours is what a killed run has left.
    """
    if POLICY_RC_D.exists() and POLICY_RC_D.read_text() != POLICY:
        yield
        return
    POLICY_RC_D.write_text(POLICY)
    POLICY_RC_D.chmod(0o755)
    try:
        yield
    finally:
        POLICY_RC_D.unlink(missing_ok=True)


def install(packages: list[str], out: TextIO) -> None:
    """Run apt-get for `packages`, saying on `out` how far it is. Raises ClusterError with the end of its output."""
    with _services_stay_down():
        _run_apt(["update"], "reading the package lists of Debian", out)
        _run_apt(["install", "-y", "--no-install-recommends", *packages], f"installing {len(packages)} packages", out)
    if shutil.which("systemctl"):
        for name in SERVICES:
            if name in packages:
                subprocess.run(["systemctl", "disable", "--quiet", name], capture_output=True, check=False)


def _run_apt(arguments: list[str], what: str, out: TextIO) -> None:
    command = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    progress = Progress(what, out)
    lines: deque[str] = deque()
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,), name="apt-output", daemon=True)
        reader.start()
        while reader.is_alive():
            progress.tick(lines[-1].strip()[:60] if lines else "")
            reader.join(1)
    if process.returncode:
        progress.end_line()
        tail = "".join(list(lines)[-_TAIL:]).strip()
        advice = "check the network and /etc/apt/sources.list, then run the same command again"
        if "dpkg --configure -a" in tail:
            advice = "an earlier installation was interrupted: dpkg --configure -a, then run the same command again"
        elif "Could not get lock" in tail:
            advice = "another package manager is running: wait for its end, then run the same command again"
        elif "No space left" in tail or "enough free space" in tail:
            advice = "make room on the disk, then run the same command again"
        raise ClusterError(f"{what}: apt-get ended with {process.returncode}:\n{tail}", advice)
    progress.done("done")


def main(arguments: list[str]) -> int:
    """Command line: 0 when nothing is missing (or was installed), 3 when something is or apt-get failed."""
    if arguments not in (["check"], ["install"], ["list"]):
        print("usage: python -m tests.cluster.packages check|install|list", file=sys.stderr)
        return 2
    packages = parse_package_list(PACKAGE_LIST.read_text())
    if arguments == ["list"]:
        print("\n".join(packages))
        return 0
    try:
        missing = find_missing(packages)
        if not missing:
            return 0
        if arguments == ["check"]:
            raise ClusterError(f"missing Debian packages: {' '.join(missing)}", f"{INSTALL} (as root)")
        print(f"installing Debian packages: {' '.join(missing)}", file=sys.stderr, flush=True)
        if os.geteuid() != 0:
            raise ClusterError("packages can only be installed by root", "run the same command with sudo")
        install(missing, sys.stderr)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except FileNotFoundError as error:
        print(
            f"error: {error.filename} is missing: this is no Debian\nnext:  install what {PACKAGE_LIST} lists",
            file=sys.stderr,
        )
        return 3
    except KeyboardInterrupt:
        print("\ninterrupted\nnext:  the same command again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
