"""The prepared stores of this cloud (cloud.imagestores): shared roots like images.py's, one for each set of images.

    <state>/stores/<handle>/tree, db    as below <state>/images, and shared with instances in the same way
    <state>/stores/<handle>/store.json  what is in it; a directory without is none that a launch may name
    <state>/stores/.building            of the builder under way

A store is built beside the others and put in place by one rename. It is removed when nobody wants it any more and no
instance uses it: until then only its store.json is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vk_provider.cloud.imagestores import (
    BuilderDiedError,
    CorruptImageError,
    ImageStoreError,
    PreparedStore,
    SourceLostError,
    StoreCosts,
    StoreFullError,
    StoreRefusedError,
)
from vk_provider.cloud.local.builder import EXIT_FULL, BuildOrder
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.cloud.local.golden import work_path
from vk_provider.cloud.local.images import SharedImages, describe, find_used, read_images_path
from vk_provider.cloud.local.store import write_atomic
from vk_provider.errors import BadStartError, CloudError
from vk_provider.imagesets.imageset import ImageSet, PinnedImage

log = logging.getLogger(__name__)

RESERVE_BYTES = 2 << 30
"""Left free on the disk by a builder: instances and the machine need it."""
BUILD_LIMIT_S = 3600.0
_LAYOUT = 1
_BUILDING = ".building"
_ERRORS: dict[str, type[ImageStoreError]] = {
    error.cause: error for error in (SourceLostError, CorruptImageError, StoreRefusedError, StoreFullError)
}


@dataclass(frozen=True, slots=True)
class _Ready:
    store: PreparedStore
    images: SharedImages


class LocalImageStores:
    """See cloud.imagestores.ImageStores.

    directory:     of the stores; instances: of all instances, see store.py
    base:          what every instance has
    registries:    as in LocalCloudConfig, for images that no instance has
    reserve_bytes: that builders leave free on the disk
    """

    shares_machine = True

    def __init__(
        self,
        directory: Path,
        instances: Path,
        base: SharedImages,
        containerd: Containerd,
        reserve_bytes: int = RESERVE_BYTES,
        registries: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._directory, self._instances = directory, instances
        self._base, self._containerd = base, containerd
        self._reserve_bytes, self._registries = reserve_bytes, registries or {}
        self._ready: dict[str, _Ready] = {}
        self._pins: Counter[str] = Counter()
        self._forgotten: set[str] = set()
        self._lock = threading.Lock()
        self._building = asyncio.Lock()

    def load(self) -> None:
        """Find the stores of an earlier process, remove what is of no use (blocking)."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_work(self._directory)
        for path in self._directory.iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
                continue
            try:
                self._ready[path.name] = self._read(path)
            except (OSError, ValueError, KeyError, TypeError, BadStartError) as error:
                if (path / "store.json").exists():
                    log.warning("the prepared store %s cannot be used: %s", path.name, error)
                    (path / "store.json").unlink(missing_ok=True)
        self._remove_unused()

    def _read(self, path: Path) -> _Ready:
        document: dict[str, Any] = json.loads((path / "store.json").read_text())
        if document["layout"] != _LAYOUT or document["base"] != self._base.path.parent.name:
            raise ValueError("it stands on images that have changed")
        images = ImageSet.of(PinnedImage(reference, digest) for reference, digest in document["images"])
        store = PreparedStore(path.name, images, int(document["size_bytes"]), float(document["prepared_at"]))
        return _Ready(store, describe(path))

    @contextmanager
    def use(self, handle: str) -> Iterator[SharedImages]:
        """The images that an instance starts with: those of the store, or of the base when it is not there. The store
        stays at least until the end; later the instance's boot specification names it (blocking)."""
        with self._lock:
            found = self._ready.get(handle)
            if found is not None:
                self._pins[handle] += 1
        try:
            yield found.images if found is not None else self._base
        finally:
            if found is not None:
                with self._lock:
                    self._pins[handle] -= 1

    def follow_costs(self, costs: StoreCosts) -> None:
        """See ImageStores.follow_costs: they cost nothing."""

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        """See ImageStores.prepare. There is one architecture: the machine's."""
        async with self._building:
            handle = f"{images.key}-{self._base.path.parent.name[-16:]}"
            with self._lock:
                if (found := self._ready.get(handle)) is not None:
                    return found.store
                pinned = list(self._ready)  # the builder links their files
                self._pins.update(pinned)
            building = self._directory / _BUILDING
            try:
                order = await asyncio.to_thread(self._order, images, sources, building, max_bytes, is_awaited)
                await asyncio.to_thread(self._clear, building)
                size_bytes = await self._run_builder(order)
                ready = await asyncio.to_thread(self._put_in_place, building, handle, images, size_bytes)
            except OSError as error:
                raise ImageStoreError(f"local cloud: images cannot be prepared: {error}") from None
            finally:
                await asyncio.shield(asyncio.to_thread(self._finish, building, pinned))
            with self._lock:
                self._ready[handle] = ready
            return ready.store

    def _order(
        self, images: ImageSet, sources: Sequence[str], target: Path, max_bytes: int, is_awaited: bool
    ) -> BuildOrder:
        with self._lock:
            known = list(self._ready.values())
        others = [ready.images.path for ready in known]
        # Layers that such a store has are neither unpacked nor on the disk a second time.
        within = [ready for ready in known if set(ready.store.images.images) < set(images.images)]
        start = max(within, key=lambda ready: len(ready.store.images.images), default=None)
        had = start.store.images.images if start is not None else ()
        found = [self._instances / name for name in sources if Path(name).name == name]
        stores = [self._base.path, *(path for path in map(read_images_path, found) if path in others)]
        disks = [path / "disk" / "containerd" for path in found]
        return BuildOrder(
            containerd_path=self._containerd.path,
            ctr_path=self._containerd.ctr_path,
            version=self._containerd.version,
            base=str((start.images if start is not None else self._base).path.parent),
            plain=str(self._base.path.parent),
            target=str(target),
            images=tuple((image.reference, image.digest) for image in images.images if image not in had),
            stores=tuple(map(str, stores)),
            disks=tuple(str(disk) for disk in disks if disk.is_dir() and not disk.is_symlink()),
            others=tuple(map(str, others)),
            max_bytes=max_bytes,
            reserve_bytes=self._reserve_bytes,
            registries={host: dict(each) for host, each in self._registries.items()} if not sources else None,
            is_awaited=is_awaited,
        )

    async def _run_builder(self, order: BuildOrder) -> int:
        """Run the process to its end; returns the store's size. Raises ImageStoreError, OSError."""
        path = self._directory / ".order.json"
        await asyncio.to_thread(write_atomic, path, order.to_text())
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "vk_provider.cloud.local.builder", str(path)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            async with asyncio.timeout(BUILD_LIMIT_S):
                output, errors = await process.communicate()
        except TimeoutError:
            raise BuilderDiedError(f"local cloud: no prepared images after {BUILD_LIMIT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return read_answer(process.returncode or 0, output, errors)

    def _put_in_place(self, building: Path, handle: str, images: ImageSet, size_bytes: int) -> _Ready:
        document = {
            "layout": _LAYOUT,
            "base": self._base.path.parent.name,
            "images": [(image.reference, image.digest) for image in images.images],
            "size_bytes": size_bytes,
            "prepared_at": time.time(),
        }
        write_atomic(building / "store.json", json.dumps(document))
        final = self._directory / handle
        with self._lock:
            if final.exists():
                # Forgotten while an instance used it: the same images, which are left as they are.
                (building / "store.json").rename(final / "store.json")
            else:
                building.rename(final)
        try:
            return self._read(final)
        except (BadStartError, ValueError) as error:
            raise StoreRefusedError(f"local cloud: the prepared images cannot be used: {error}") from None

    def _finish(self, building: Path, pinned: list[str]) -> None:
        self._clear(building)
        with self._lock:
            self._pins.subtract(pinned)
        if self._forgotten:
            self._remove_unused()

    def _clear(self, building: Path) -> None:
        shutil.rmtree(building, ignore_errors=True)
        remove_work(self._directory)
        (self._directory / ".order.json").unlink(missing_ok=True)

    async def list_prepared(self) -> list[PreparedStore]:
        """See ImageStores.list_prepared."""
        with self._lock:
            return [ready.store for ready in self._ready.values()]

    async def forget(self, handle: str) -> None:
        """See ImageStores.forget."""
        try:
            await asyncio.to_thread(self._forget, handle)
        except OSError as error:
            raise CloudError(f"local cloud: the prepared store {handle} cannot be forgotten: {error}") from None

    def _forget(self, handle: str) -> None:
        with self._lock:
            if self._ready.pop(handle, None) is not None:
                (self._directory / handle / "store.json").unlink(missing_ok=True)
                self._forgotten.add(handle)
        self._remove_unused()

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        """See ImageStores.sweep."""
        try:
            await asyncio.to_thread(self._remove_unused)
        except OSError as error:
            raise CloudError(f"local cloud: prepared stores cannot be swept: {error}") from None

    def release(self, handle: str) -> None:
        """An instance that was launched with it is gone, and its boot specification, too (blocking)."""
        if handle in self._forgotten:
            self._remove_unused()

    def _remove_unused(self) -> None:
        """Remove the stores that no launch may name and no instance uses."""
        with self._lock:
            used = {Path(path).parent.name for path in find_used(self._instances)}
            gone = []
            for path in self._directory.iterdir():
                is_free = path.name not in used and path.name not in self._ready and not self._pins[path.name]
                if is_free and not path.name.startswith("."):
                    gone.append(path.rename(path.with_name(f".gone-{path.name}")))
                    self._forgotten.discard(path.name)
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)


def remove_work(directory: Path) -> None:
    """Remove what a builder that was killed has left outside of the directory of stores (blocking)."""
    shutil.rmtree(work_path(directory / _BUILDING), ignore_errors=True)


def read_answer(code: int, output: bytes, errors: bytes) -> int:
    """The size in bytes that a builder has told. Raises ImageStoreError."""
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        answer = {}
    if code == 0 and "size_bytes" in answer:
        return int(answer["size_bytes"])
    if code == EXIT_FULL:
        raise StoreFullError("local cloud: the disk is too full to prepare images")
    if "error" in answer:
        kind = _ERRORS.get(answer["error"], ImageStoreError)
        raise kind(f"local cloud: images cannot be prepared: {answer.get('message')}")
    lines = errors.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {code}"
    raise BuilderDiedError(f"local cloud: the builder of prepared images has ended: {reason}")
