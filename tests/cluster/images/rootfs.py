"""The files of an image: a tree in memory that refers to files on this machine, and its tar form."""

from __future__ import annotations

import io
import posixpath
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.cluster.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symlink. Exactly one of `content`, `source` and `target` is set, none for a directory."""

    mode: int
    uid: int = 0
    gid: int = 0
    content: bytes | None = None
    source: Path | None = None
    target: str | None = None


class Rootfs:
    """A tree of entries by absolute path inside the image. Parents appear by themselves as 0755 root directories."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    @property
    def paths(self) -> list[str]:
        """Every path in it, sorted."""
        return sorted(self._entries)

    def _put(self, path: str, entry: Entry) -> None:
        parent = posixpath.dirname(path)
        if parent != "/" and parent not in self._entries:
            self._put(parent, Entry(0o755))
        self._entries[path] = entry

    def add_directory(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """A directory with a mode or owner of its own."""
        self._put(path, Entry(mode, uid, gid))

    def add_text(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file with the content given."""
        self._put(path, Entry(mode, content=content.encode() if isinstance(content, str) else content))

    def add_file(self, path: str, source: Path, mode: int | None = None) -> None:
        """A copy of a file of this machine, with its mode unless another is given."""
        real = source.resolve()
        if not real.is_file():
            raise ClusterError(f"{source} is missing, an image needs it", "python -m tests.cluster.packages install")
        self._put(path, Entry(real.stat().st_mode & 0o7777 if mode is None else mode, source=real))

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link at `path`."""
        self._put(path, Entry(0o777, target=target))

    def add_tree(self, path: str, source: Path) -> None:
        """A directory of this machine with everything in it, links kept."""
        for item in sorted(source.rglob("*")):
            inside = posixpath.join(path, item.relative_to(source).as_posix())
            if item.is_symlink():
                self.add_symlink(inside, str(item.readlink()))
            elif item.is_dir():
                self.add_directory(inside)
            else:
                self.add_file(inside, item)

    def add_program(self, name: str, path: str | None = None) -> None:
        """A program of this machine (a name on PATH or an absolute path) and every shared library it loads.

        It lands at `path`, or where it is here.
        """
        found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise ClusterError(
                f"no program {name} on this machine, an image needs it", "python -m tests.cluster.packages install"
            )
        self.add_file(path or found, Path(found))
        for library in shared_libraries(Path(found)):
            self.add_file(str(library), library)

    def write_tar(self, output: BinaryIO) -> None:
        """Write the tree as a deterministic tar: sorted, no times, no names of owners."""
        with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in self.paths:
                _write_entry(archive, path, self._entries[path])


def _write_entry(archive: tarfile.TarFile, path: str, entry: Entry) -> None:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode, member.uid, member.gid, member.mtime = entry.mode, entry.uid, entry.gid, 0
    if entry.target is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
        archive.addfile(member)
    elif entry.content is not None:
        member.size = len(entry.content)
        archive.addfile(member, io.BytesIO(entry.content))
    elif entry.source is not None:
        with entry.source.open("rb") as content:
            member.size = entry.source.stat().st_size
            archive.addfile(member, content)
    else:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)


def shared_libraries(program: Path) -> list[Path]:
    """What the dynamic loader opens for `program`, itself included, at the paths it looks under; nothing if static."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if "not found" in listed.stdout:
        raise ClusterError(f"{program} lacks libraries:\n{listed.stdout}", "python -m tests.cluster.packages install")
    return sorted(parse_ldd(listed.stdout.splitlines()))


def parse_ldd(lines: Iterable[str]) -> set[Path]:
    """Absolute library paths in ldd's output (`name => /path (address)` and `/path (address)`)."""
    found = set()
    for line in lines:
        where = line.split("=>")[-1].split("(")[0].strip()
        if where.startswith("/"):
            found.add(Path(where))
    return found
