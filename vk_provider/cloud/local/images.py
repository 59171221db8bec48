"""The prepared images as this cloud's instances share them: read-only, below directories of their own.

What an instance has of its own on the disk is empty but for links to the layers, which it sees read-only at
boot.PREPARED; the images' content lies below what it fetches itself, and it copies the databases into its memory (all
three in rootfs.py). So nothing of an instance is the same file as another's that it could change. The cloud has links
of its own to the images, which stay as they are when the golden root is made anew or dropped.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from vk_provider.cloud.local import boot
from vk_provider.cloud.local.command import CommandError
from vk_provider.cloud.local.golden import GoldenRoot, link_tree
from vk_provider.errors import BadStartError, CloudError

_DIRECTORIES = {boot.CONTENT: 0o755, "work": 0o700, "snapshots": 0o700, "volumes": 0o700}
"""Of an instance's containerd on the disk, see boot.DISK_DIRECTORIES; the first two are of an overlay."""


@dataclass(frozen=True, slots=True)
class SharedImages:
    """path: the links, laid out as containerd's root; beside it, in `db`, PLUGIN/FILE of the databases
    (golden.set_databases_apart), which each instance has copies of; layers: names below its snapshots."""

    path: Path
    layers: tuple[str, ...]

    def make_root(self, target: Path) -> None:
        """Make `target` (must not exist) what the containerd of one instance has on the disk (blocking, below 1 ms).
        Raises CloudError; then nothing is left of it."""
        try:
            target.mkdir(parents=True)
            for name, mode in _DIRECTORIES.items():
                (target / name).mkdir(mode=mode)
            for layer in self.layers:
                os.symlink(f"{boot.PREPARED}/{layer}", f"{target}/snapshots/{layer}")
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise CloudError(f"local cloud: no disk for an instance: {error}") from None


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
    """Look at `path`/tree (blocking). Raises OSError, BadStartError."""
    tree = path / "tree"
    for directory in (tree, tree / boot.SNAPSHOTS, tree / boot.CONTENT):
        for entry in directory.iterdir():
            if entry.is_symlink():
                raise BadStartError(f"local cloud: unexpected link {entry} in the prepared images")
    layers = sorted(entry.name for entry in (tree / boot.SNAPSHOTS).iterdir() if (entry / "fs").is_dir())
    return SharedImages(tree, tuple(layers))
