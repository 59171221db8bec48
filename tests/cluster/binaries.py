"""Which binaries a control plane runs: KUBEBUILDER_ASSETS, PATH, else our own build.

`python -m tests.cluster.binaries` builds them if they are nowhere and says where they come from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.cluster import build

NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
OLDEST_MINOR = 36


@dataclass(frozen=True, slots=True)
class Binaries:
    """The path of each program of NEEDED, the version of the API server (v1.37.2) and where they come from."""

    paths: dict[str, Path]
    version: str
    source: str

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def find_binaries(out: TextIO | None = None) -> Binaries:
    """Binaries that are complete and new enough from KUBEBUILDER_ASSETS or PATH; else built. Raises ClusterError."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for source, search in (("KUBEBUILDER_ASSETS", assets), ("PATH", os.environ.get("PATH"))):
        found = _usable(search, source)
        if found:
            return found
    program = build.ensure("controlplane", out)
    paths = {name: program.parent / name for name in NEEDED}
    return Binaries(paths, build.targets()["controlplane"].stamps[0].partition("=")[2], "built")


def _usable(search: str | None, source: str) -> Binaries | None:
    located = {name: shutil.which(name, path=search) for name in NEEDED} if search else {}
    paths = {name: Path(path) for name, path in located.items() if path}
    if len(paths) < len(NEEDED):
        return None
    kubernetes = [_version([str(paths[name]), "--version"]) for name in NEEDED[1:4]]
    kubernetes.append(_version([str(paths["kubectl"]), "version", "--client"]))
    versions = {version for version in kubernetes if version}
    if None in kubernetes or len({_minor(version) for version in versions}) != 1:
        return None
    version = versions.pop()
    return Binaries(paths, version, source) if _minor(version) >= OLDEST_MINOR else None


def _version(command: list[str]) -> str | None:
    """The version a Kubernetes binary prints, such as v1.37.2; None when it does not run."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v1\.\d+\.\d+\S*", ran.stdout)
    return found[0] if found else None


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def main() -> int:
    """The command line; exit codes as of tests.cluster.build."""

    def find(name: str) -> None:
        found = find_binaries()
        print(f"{name} {found.version} ({found.source}): {found['kube-apiserver'].parent}", flush=True)

    return build.run_to_end(["control plane"], find)


if __name__ == "__main__":
    sys.exit(main())
