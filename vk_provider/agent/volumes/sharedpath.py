"""hostPath volumes below a directory that pods of other instances write, too (podmodel.sharedpath).

Somebody may have put a link there that leads to this instance's own files, and may put one there at any time. So the
path is resolved within the shared directory only, as a subPath is within its volume, and what was opened is bound into
the pod's directory: the container gets that mount, and nothing looks at the path again.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from pathlib import Path

from vk_provider.agent.volumes.hostpath import check_type, validate_host_path
from vk_provider.agent.volumes.subpath import bind_opened, make_sub_path, open_inside
from vk_provider.jsontypes import Json


def bind_shared_path(source: Json, root: str, target: Path) -> None:
    """Check (and create, if asked) what a hostPath source below `root` names, and bind it to `target`.

    Raises ValueError in the kubelet's words, and for a path that a link leads out of `root`; OSError.
    """
    path, kind = validate_host_path(source)
    relative = posixpath.relpath(posixpath.normpath(path), root)
    base = os.path.realpath(root)
    if kind in ("", "DirectoryOrCreate"):  # the container runtime makes a directory of what is missing
        make_sub_path(Path(base), relative, 0o755)
    elif kind == "FileOrCreate":
        _make_file(base, relative)
    with contextlib.ExitStack() as stack:
        descriptor = -1

        def open_it() -> int:
            nonlocal descriptor
            descriptor = stack.enter_context(open_inside(base, os.path.realpath(os.path.join(base, relative))))
            return os.fstat(descriptor).st_mode

        if kind:
            check_type(path, kind, open_it)
        else:
            open_it()
        bind_opened(descriptor, target)


def _make_file(base: str, relative: str) -> None:
    """Make an empty file in a directory that is there; what stands in its place is left."""
    parent, name = posixpath.split(relative)
    with open_inside(base, os.path.realpath(os.path.join(base, parent))) as directory:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o644, dir_fd=directory)
        except FileExistsError:
            return
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
