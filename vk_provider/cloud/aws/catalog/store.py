"""The snapshot on disk. What cannot be read or written is no error of anybody's: AWS is asked again."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import msgspec

from vk_provider.cloud.aws.catalog.snapshot import VERSION, Snapshot

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20


class SnapshotStore:
    """A file for each region. Blocking: call it in a thread."""

    def __init__(self, directory: str, region: str) -> None:
        self._path = Path(directory) / f"ec2-{region}.json" if directory else None
        self._region = region

    def load(self) -> Snapshot | None:
        """The last one that was saved; None without one, or with one that another program wrote."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            found = msgspec.json.decode(data, type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeError) as error:
            log.warning("the catalog in %s is not used: %s", self._path, error)
            return None
        if found.version != VERSION or found.region != self._region:
            log.info("the catalog in %s is of another version or region, and not used", self._path)
            return None
        return found

    def save(self, snapshot: Snapshot) -> None:
        """Whole or not at all: a reader, or the next start, never sees a part of it."""
        if self._path is None:
            return
        temporary = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".ec2-", delete=False) as file:
                temporary = file.name
                file.write(msgspec.json.encode(snapshot))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self._path)
            temporary = ""
        except OSError as error:
            log.warning("the catalog cannot be kept in %s: %s", self._path, error)
        finally:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
