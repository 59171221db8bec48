"""The prepared images as this cloud's instances share them: read-only, below directories of their own.

An instance's containerd root is made of empty directories, copies of what is small, and places for the databases,
which it copies into its memory (rootfs.py). The images' large files and the layers are mounted into it read-only
(stage.py), so nothing of an instance is the same file as another's that it could change. The cloud has links of its own
to them, which stay as they are when the golden root is made anew or dropped.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.golden import GoldenRoot
from vk_provider.errors import BadStartError, CloudError

_COPIED_BYTES = 65536
"""A file up to this size is copied: a mount costs more."""


@dataclass(frozen=True, slots=True)
class SharedImages:
    """path: the links, laid out as containerd's root; databases: PLUGIN/FILE (golden.set_databases_apart), which each
    instance has copies of; binds: paths relative to `path`."""

    path: Path
    databases: Path
    binds: tuple[str, ...]
    copies: tuple[str, ...]
    directories: tuple[str, ...]

    def make_root(self, target: Path) -> None:
        """Make `target` (must not exist) a containerd root for one instance (blocking, some ms). Raises CloudError;
        then nothing is left of it."""
        source, root = str(self.path), str(target)  # strings: each launch makes some dozens of files
        try:
            os.makedirs(root)
            for name in self.directories:
                os.mkdir(f"{root}/{name}")
                os.chmod(f"{root}/{name}", stat.S_IMODE(os.stat(f"{source}/{name}").st_mode))
            for name in self.copies:
                _copy(f"{source}/{name}", f"{root}/{name}")
            for name in self.binds:
                if os.path.isdir(f"{source}/{name}"):
                    os.mkdir(f"{root}/{name}")
                else:
                    _touch(f"{root}/{name}", 0o644)
            _make_places(str(self.databases), root)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise CloudError(f"local cloud: cannot copy the prepared images: {error}") from None


def _copy(source: str, target: str) -> None:
    """A file with its mode and times."""
    shutil.copyfile(source, target)
    found = os.stat(source)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _touch(path: str, mode: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode))


def _make_places(databases: str, root: str) -> None:
    """An empty file for each database, to mount it on."""
    for plugin in os.listdir(databases):
        os.makedirs(f"{root}/{plugin}", exist_ok=True)
        for name in os.listdir(f"{databases}/{plugin}"):
            _touch(f"{root}/{plugin}/{name}", 0o600)


def share_images(golden: GoldenRoot, directory: Path, instances: Path) -> SharedImages:
    """Link the golden root below `directory` (blocking) and remove what no instance below `instances` uses any more.
    Raises BadStartError."""
    made = (golden.path / "tree").stat()
    final = directory / f"{golden.path.name}-{made.st_ino:x}-{made.st_mtime_ns:x}"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    used = {final.name, *(Path(path).parent.name for path in find_used(instances))}
    for entry in directory.iterdir():
        if entry.name not in used:
            shutil.rmtree(entry, ignore_errors=True)
    if not final.is_dir():
        building = directory / ".building"
        try:
            building.mkdir()
            link_tree(golden.path / "tree", building / "tree")
            shutil.copytree(golden.path / "db", building / "db")
            building.rename(final)
        except (CommandError, OSError) as error:
            shutil.rmtree(building, ignore_errors=True)
            raise BadStartError(f"local cloud: cannot link the prepared images: {error}") from None
    return describe(final)


def link_tree(source: Path, target: Path) -> None:
    """Make `target` the same tree of the same files, where the file system allows it (blocking). Raises
    CommandError."""
    try:
        run_command(["cp", "-al", str(source), str(target)])
    except CommandError:  # another file system: hard links are impossible
        shutil.rmtree(target, ignore_errors=True)
        run_command(["cp", "-a", "--reflink=auto", str(source), str(target)])


def find_used(instances: Path) -> set[str]:
    """The `images` of all boot specifications."""
    return {str(path) for path in map(read_images_path, instances.glob("i-*")) if path is not None}


def read_images_path(instance: Path) -> Path | None:
    """The `images` of the boot specification in the instance's directory; what cannot be read belongs to no instance
    that could start."""
    try:
        return Path(json.loads((instance / "boot.json").read_text())["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe(path: Path) -> SharedImages:
    """Look at `path`/tree and `path`/db (blocking). A plugin's directory without a file is not the instances': their
    containerd makes those that it needs. Raises OSError, BadStartError."""
    tree = path / "tree"
    binds: list[str] = []
    copies: list[str] = []
    directories: list[str] = []
    waiting = [tree]
    while waiting:
        for entry in sorted(waiting.pop().iterdir()):
            name = str(entry.relative_to(tree))
            if entry.is_symlink():
                raise BadStartError(f"local cloud: unexpected link {entry} in the prepared images")
            if not entry.is_dir():
                (copies if entry.stat().st_size <= _COPIED_BYTES else binds).append(name)
            elif entry.parent.name == "snapshots" and (entry / "fs").is_dir():
                binds.append(name)
            elif entry.parent == tree and not any(each.is_file() for each in entry.rglob("*")):
                continue
            else:
                directories.append(name)
                waiting.append(entry)
    return SharedImages(tree, path / "db", tuple(binds), tuple(copies), tuple(directories))
