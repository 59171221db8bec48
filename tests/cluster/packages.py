"""The Debian packages of packages.txt: which are missing, and installing them without starting their services.

`python -m tests.cluster.packages check|install|list`
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE_LIST = Path(__file__).with_name("packages.txt")
POLICY_RC_D = Path("/usr/sbin/policy-rc.d")


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

    A policy the administrator has written is kept as it is.
    """
    if POLICY_RC_D.exists():
        yield
        return
    POLICY_RC_D.write_text("#!/bin/sh\nexit 101\n")
    POLICY_RC_D.chmod(0o755)
    try:
        yield
    finally:
        POLICY_RC_D.unlink(missing_ok=True)


def install(packages: list[str]) -> int:
    """Run apt-get for `packages`; its output goes to ours. Returns apt-get's exit code."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_down():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            code = subprocess.run(["apt-get", *command], env=environment, check=False).returncode
            if code:
                return code
    return 0


def main(arguments: list[str]) -> int:
    """Command line: 0 when nothing is missing (or was installed), 3 when something is or apt-get failed."""
    if arguments not in (["check"], ["install"], ["list"]):
        print("usage: python -m tests.cluster.packages check|install|list", file=sys.stderr)
        return 2
    packages = parse_package_list(PACKAGE_LIST.read_text())
    if arguments == ["list"]:
        print("\n".join(packages))
        return 0
    missing = find_missing(packages)
    if not missing:
        return 0
    if arguments == ["check"]:
        print(f"missing Debian packages: {' '.join(missing)}\nnext: python -m tests.cluster.packages install (as root)")
        return 3
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    if os.geteuid() != 0:
        print("packages can only be installed by root; run the same command with sudo", file=sys.stderr)
        return 3
    if install(missing) != 0:
        print("apt-get failed; see its message above, then run the same command again", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
