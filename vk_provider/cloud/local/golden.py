"""The golden containerd root: images are imported once for all instances of this machine, see images.py."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vk_provider.cloud.local.catalog import machine_architecture
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.cloud.local.pause import PAUSE_IMAGE, write_pause_archive
from vk_provider.errors import BadStartError

_LAYOUT = 3
_SOCKET_TIMEOUT_S = 20.0
_KEEP_UNUSED_S = 14 * 86400.0
_NO_COLLECTION = "24h"
"""Longer than any build: 0.1 s after its start containerd would look for garbage, and content that was put there for it
is none of an image yet (buildtree.offer_content)."""


@dataclass(frozen=True, slots=True)
class GoldenRoot:
    """A prepared root: `path`/tree and, apart, `path`/db, its databases. sandbox_image is the pause image's name."""

    path: Path
    sandbox_image: str


def read_image_name(archive: Path) -> str:
    """The name an OCI or docker archive gives its (first) image."""
    try:
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            if "index.json" in names:
                index = json.load(_member(tar, "index.json"))
                for manifest in index["manifests"]:
                    name = manifest.get("annotations", {}).get("io.containerd.image.name")
                    if name:
                        return str(name)
            if "manifest.json" in names:
                return str(json.load(_member(tar, "manifest.json"))[0]["RepoTags"][0])
    except (OSError, tarfile.TarError, KeyError, IndexError, ValueError) as error:
        raise BadStartError(f"local cloud: cannot read image archive {archive}: {error}") from None
    raise BadStartError(f"local cloud: image archive {archive} does not name its image")


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file


def golden_key(containerd: Containerd, sandbox_image: str, images: Sequence[str]) -> str:
    """Name of the root that holds exactly these images. Archives count by path, size and time; references by name."""
    described: list[Any] = [_LAYOUT, containerd.version[:2], sandbox_image or PAUSE_IMAGE]
    for image in sorted({sandbox_image, *images} - {""}):
        path = Path(image)
        if path.is_absolute():
            try:
                stat = path.stat()
            except OSError as error:
                raise BadStartError(f"local cloud: image archive {path}: {error.strerror}") from None
            described.append([image, stat.st_size, stat.st_mtime_ns])
        else:
            described.append(image)
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def ensure_golden(
    containerd: Containerd,
    directory: Path,
    images: Sequence[str],
    sandbox_image: str = "",
    registries: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    refresh: bool = False,
) -> GoldenRoot:
    """Return the root with these images, building it if needed (blocking; seconds). `refresh` pulls again."""
    name = sandbox_image or PAUSE_IMAGE
    if Path(name).is_absolute():
        name = read_image_name(Path(name))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    final = directory / golden_key(containerd, sandbox_image, images)
    golden = GoldenRoot(final, name)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _drop_unused(directory, final.name)
        if final.is_dir() and not refresh:
            os.utime(final)
            return golden
        building = directory / ".building"
        shutil.rmtree(building, ignore_errors=True)
        try:
            _build(containerd, building, [sandbox_image or PAUSE_IMAGE, *images], registries or {})
        except (CommandError, OSError) as error:
            shutil.rmtree(building, ignore_errors=True)
            raise BadStartError(f"local cloud: cannot prepare images: {error}") from None
        replaced = directory / ".replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if final.is_dir():
            final.rename(replaced)  # launches of others find the old root or the new one
        building.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    return golden


def _drop_unused(directory: Path, keep: str) -> None:
    """Remove roots that no cloud has asked for in a long time (clouds have links of their own)."""
    oldest = time.time() - _KEEP_UNUSED_S
    for path in directory.iterdir():
        if path.is_dir() and path.name != keep and path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)


def _build(
    containerd: Containerd, target: Path, images: Sequence[str], registries: Mapping[str, Mapping[str, Any]]
) -> None:
    tree = target / "tree"
    tree.mkdir(parents=True)
    with work_directory(target) as work:
        hosts = write_hosts(work / "hosts", registries)
        with run_containerd(containerd, tree, work) as address:
            ctr = [containerd.ctr_path, "--address", address, "--namespace", "k8s.io", "images"]
            for image in images:
                archive = Path(image)
                if image == PAUSE_IMAGE:
                    archive = work / "pause.tar"
                    write_pause_archive(archive, machine_architecture())
                if archive.is_absolute():
                    run_command([*ctr, "import", str(archive)], timeout_s=600)
                else:
                    run_command([*ctr, "pull", "--hosts-dir", str(hosts), image], timeout_s=600)
    mark_opaque(tree)
    set_databases_apart(tree, target / "db")


def link_tree(source: Path, target: Path) -> None:
    """Make `target` the same tree of the same files, where the file system allows it (blocking). Raises
    CommandError."""
    try:
        run_command(["cp", "-al", str(source), str(target)])
    except CommandError:  # another file system: hard links are impossible
        shutil.rmtree(target, ignore_errors=True)
        run_command(["cp", "-a", "--reflink=auto", str(source), str(target)])


def set_databases_apart(tree: Path, target: Path) -> None:
    """Move the databases out of a root: each instance has copies of them."""
    for path in sorted(tree.glob("*/*.db")):
        copy = target / path.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        path.rename(copy)


def mark_opaque(tree: Path) -> None:
    """Within a user namespace overlayfs looks for its marks under another name (overlayfs.rst, "User xattr")."""
    for layer in tree.glob("io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs"):
        for directory, _, _ in os.walk(layer):
            try:
                if os.getxattr(directory, "trusted.overlay.opaque", follow_symlinks=False) == b"y":
                    os.setxattr(directory, "user.overlay.opaque", b"y", follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise


def work_path(target: Path) -> Path:
    """For sockets and temporary files: one name per target, so that what a killed build has left is found again, and
    a short one, as socket paths are limited."""
    return Path("/run", f"vk-golden-{hashlib.sha256(os.fsencode(target)).hexdigest()[:12]}")


@contextmanager
def work_directory(target: Path) -> Iterator[Path]:
    """work_path, empty, and removed at the end. The caller holds the lock of the target's directory."""
    work = work_path(target)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_hosts(directory: Path, registries: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write containerd's certs.d tree for the given registry hosts."""
    directory.mkdir(parents=True, exist_ok=True)
    for host, options in registries.items():
        server = str(options.get("server") or f"{'http' if options.get('plain_http') else 'https'}://{host}")
        (directory / host).mkdir()
        text = f'server = "{server}"\n[host."{server}"]\n  capabilities = ["pull", "resolve"]\n'
        (directory / host / "hosts.toml").write_text(text)
    return directory


@contextmanager
def run_containerd(containerd: Containerd, root: Path, work: Path, restrict: Sequence[str] = ()) -> Iterator[str]:
    """A private containerd without CRI in its own mount namespace, stopped at the end, also that of this process.
    restrict: further arguments of setpriv(1)."""
    address = str(work / "c.sock")
    config = work / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{work}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", '
        '"io.containerd.cri.v1.runtime"]\n'
        f'[grpc]\n  address = "{address}"\n[ttrpc]\n  address = "{address}.ttrpc"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{work}/opt"\n'
        f'[plugins."io.containerd.gc.v1.scheduler"]\n  startup_delay = "{_NO_COLLECTION}"\n  mutation_threshold = 0\n'
    )
    log_path = work / "containerd.log"
    with open(log_path, "wb") as log:
        confine = ["setpriv", "--pdeathsig", "KILL", *restrict, "unshare", "--mount"]
        process = subprocess.Popen(
            [*confine, containerd.path, "--config", str(config)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _SOCKET_TIMEOUT_S
        while not os.path.exists(address):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log_path.read_text(errors="replace").splitlines()
                raise CommandError(f"containerd does not start: {lines[-1] if lines else 'no output'}")
            time.sleep(0.02)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
