"""Paths of a Node that its pods' hostPath volumes share: what one pod leaves there, the next one finds. Pure.

Every other hostPath is of the pod's own instance and ends with it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

PARENTS = ("/data", "/mnt", "/srv", "/tmp", "/var/tmp")
"""Where a shared path may be: nothing of an instance's own is below them that others could reach then."""
MAX_PATHS = 16


def find_problem(paths: Sequence[str]) -> str:
    """Why a Node cannot share these paths, "" when it can."""
    if len(paths) > MAX_PATHS:
        return f"{len(paths)} paths; a Node shares {MAX_PATHS} at most"
    for path in paths:
        if path != posixpath.normpath(path) or not path.startswith("/") or not path.isprintable() or ":" in path:
            return f"{path!r} is not an absolute path in its shortest form"
        if not any(path.startswith(parent + "/") for parent in PARENTS):
            return f"{path!r} is not below one of {', '.join(PARENTS)}"
    for path in paths:
        outer = next((other for other in paths if path.startswith(other + "/")), "")
        if outer or paths.count(path) > 1:
            return f"{path!r} is shared twice" + (f", it is below {outer!r}" if outer else "")
    return ""


def find_shared_root(path: str, roots: Sequence[str]) -> str:
    """The shared path that a hostPath is or is below, "" when it is not shared."""
    plain = posixpath.normpath(path.replace("//", "/"))
    return next((root for root in roots if plain == root or plain.startswith(root + "/")), "")
