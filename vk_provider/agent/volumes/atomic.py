"""Writing a set of files so that a reader sees either the old set or the new one.

Files live in `..<timestamp>/`, the link `..data` points to the newest of these, and every visible name is a link into
`..data`; one rename of `..data` switches all of them. Readers that watch for it (inotify on `..data`) know this layout
from the kubelet.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vk_provider.podmodel.projection import ProjectedFile

_DATA, _DATA_NEW = "..data", "..data_tmp"
_MAX_PATH, _MAX_NAME = 4096, 255


def validate_path(path: str) -> str:
    """Return the cleaned path of a file in a volume; raises ValueError for one that could leave the volume."""
    if not path:
        raise ValueError(f'invalid path: must not be empty: "{path}"')
    if path.startswith("/"):
        raise ValueError(f"invalid path: must be relative path: {path}")
    if len(path) > _MAX_PATH:
        raise ValueError(f"invalid path: must be less than or equal to {_MAX_PATH} characters")
    parts = path.split("/")
    if ".." in parts:
        raise ValueError(f"invalid path: must not contain '..': {path}")
    if any(len(part) > _MAX_NAME for part in parts):
        raise ValueError(f"invalid path: filenames must be less than or equal to {_MAX_NAME} characters")
    if parts[0].startswith(".."):
        raise ValueError(f"invalid path: must not start with '..': {path}")
    return os.path.normpath(path)


def write_files(root: Path, files: Mapping[str, ProjectedFile], after_write: Callable[[], None] | None = None) -> bool:
    """Make the volume at `root` hold exactly `files`; returns False when it already did.

    after_write: sets ownership of the whole volume; called once the files exist and before they become visible, and
                 again after new visible names were made
    Any step may have been the last one of an agent before this one, or of a disk that was full: what is missing is made
    up for, what is left over is removed.
    """
    wanted = {validate_path(path): content for path, content in files.items()}
    old = _current(root)
    changed = old is None or _differs(old, wanted)
    if changed:
        _switch(root, _write_set(root, wanted, after_write))
    made = _link_visible(root, wanted)
    if made and after_write is not None:
        after_write()
    _remove_leftovers(root, wanted)
    return changed or made


def _write_set(root: Path, wanted: Mapping[str, ProjectedFile], after_write: Callable[[], None] | None) -> Path:
    new = _make_directory(root)
    try:
        for path, content in wanted.items():
            _write_file(new, path, content)
        if after_write is not None:
            after_write()
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return new


def _switch(root: Path, new: Path) -> None:
    staged = root / _DATA_NEW
    staged.unlink(missing_ok=True)
    staged.symlink_to(new.name)
    staged.rename(root / _DATA)


def _current(root: Path) -> Path | None:
    try:
        found = root / os.readlink(root / _DATA)
    except FileNotFoundError:
        return None
    return found if found.is_dir() else None


def _differs(old: Path, wanted: Mapping[str, ProjectedFile]) -> bool:
    present = {
        os.path.relpath(os.path.join(directory, name), old) for directory, _, names in os.walk(old) for name in names
    }
    if present != set(wanted):
        return True
    return any((old / path).read_bytes() != content.data for path, content in wanted.items())


def _make_directory(root: Path) -> Path:
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime())
    while True:
        directory = root / f"{stamp}.{int.from_bytes(os.urandom(4))}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        directory.chmod(0o755)
        return directory


def _write_file(directory: Path, path: str, content: ProjectedFile) -> None:
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content.data)
        if content.owner_uid is not None:
            os.fchown(descriptor, content.owner_uid, -1)
        os.fchmod(descriptor, content.mode & 0o777)


def _link_visible(root: Path, wanted: Mapping[str, ProjectedFile]) -> bool:
    made = False
    for name in {path.partition("/")[0] for path in wanted}:
        if not os.path.lexists(root / name):
            (root / name).symlink_to(f"{_DATA}/{name}")
            made = True
    return made


def _remove_leftovers(root: Path, wanted: Mapping[str, ProjectedFile]) -> None:
    """Sets of files that are not the current one, and visible names that lead to nothing."""
    current = os.readlink(root / _DATA)
    names = {path.partition("/")[0] for path in wanted}
    for entry in list(os.scandir(root)):
        if entry.is_symlink():
            stale = entry.name not in names and os.readlink(entry.path) == f"{_DATA}/{entry.name}"
            if stale or entry.name == _DATA_NEW:
                os.unlink(entry.path)
        elif entry.name.startswith("..") and entry.name != current:
            shutil.rmtree(entry.path, ignore_errors=True)
