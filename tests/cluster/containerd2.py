"""containerd 2, where it was built (`make containerd2`): what instances find first on PATH then."""

from __future__ import annotations

import os

from tests.cluster import build

PROGRAMS = ("containerd", "shim-runc-v2", "ctr")
DISTRIBUTION, BUILT = "distribution", "built"


def default() -> str:
    """BUILT where all of it was built, else DISTRIBUTION: whatever containerd is first on PATH."""
    return BUILT if all(build.built_path(name).exists() for name in PROGRAMS) else DISTRIBUTION


def ensure() -> str:
    """BUILT, after building what is missing. Raises ClusterError."""
    for name in PROGRAMS:
        build.ensure(name)
    return BUILT


def search_path(which: str) -> str:
    """PATH for a provider whose instances are to run DISTRIBUTION or BUILT."""
    path = os.environ.get("PATH", os.defpath)
    if which != BUILT:
        return path
    directories = dict.fromkeys(str(build.built_path(name).parent) for name in PROGRAMS)
    return os.pathsep.join([*directories, path])
