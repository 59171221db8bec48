"""The state of the cloud: one directory per instance, which every process on this machine may read.

instances/<id>/instance.json   the record (tags, type, addresses, state), written before anything is started
instances/<id>/user-data       mode 0600
instances/<id>/boot.json       the specification of the instance's first process, see boot.py
instances/<id>/pid             identity of the first process, written by the process that started it
instances/<id>/lock            held (flock) while the first process is started, so that it is started once
instances/<id>/disk/           the instance's own directories; *.log are its consoles
addresses/<ip>                 which instance has a primary address; its pod address is the next one
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.tags import check_tags
from vk_provider.errors import CloudQuotaError

FIRST_ADDRESS_OFFSET = 16
"""Addresses below it are left for the host and services beside it."""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as recorded on disk. Times in Unix seconds, 0 when not yet. parameters: cloud.parameters digest
    of its launch, "" of one that an earlier version launched. image_store: of its launch."""

    instance_id: str
    client_token: str
    instance_type: str
    zone: str
    capacity_type: str
    architecture: str
    cpu_milli: int
    memory_bytes: int
    addresses: Addresses
    launch_time: float
    tags: dict[str, str] = field(default_factory=dict)
    state: str = InstanceState.PENDING.value
    state_reason: str = ""
    terminated_time: float = 0.0
    parameters: str = ""
    shared_host_paths: Sequence[str] = ()
    image_store: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared_host_paths", tuple(self.shared_host_paths))  # JSON knows no tuples

    def to_instance(self, state: InstanceState, reason: str = "") -> Instance:
        gone = state is InstanceState.TERMINATED
        addresses = self.addresses if not gone else Addresses("", "")
        return Instance(
            instance_id=self.instance_id,
            state=state,
            instance_type=self.instance_type,
            zone=self.zone,
            capacity_type=self.capacity_type,
            architecture=self.architecture,
            primary_ip=addresses.primary_ip,
            pod_ip=addresses.pod_ip,
            launch_time=self.launch_time,
            tags=dict(self.tags),
            state_reason=reason or self.state_reason,
            primary_ipv6=addresses.primary_ipv6,
            pod_ipv6=addresses.pod_ipv6,
            ended_at=self.terminated_time if gone else 0.0,
        )

    def to_text(self) -> str:
        document = asdict(self)
        addresses = document.pop("addresses")
        return json.dumps(document | addresses)

    @classmethod
    def from_text(cls, text: str) -> InstanceRecord:
        """Raises ValueError, TypeError, AttributeError for a text that is none."""
        document: dict[str, Any] = json.loads(text)
        addresses = Addresses.take(document)
        # A newer version may have written more.
        known = {name: value for name, value in document.items() if name in _FIELDS}
        return cls(**known | {"addresses": addresses})


_FIELDS = {each.name for each in fields(InstanceRecord)}


def instance_id_of(client_token: str, member: int = 0) -> str:
    """The instance of a client token, by its number within the group: derived, so that a repeated launch finds the
    first ones even after a crash."""
    text = f"{client_token}#{member}" if member else client_token
    return "i-" + hashlib.sha256(text.encode()).hexdigest()[:17]


_numbers = itertools.count()


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step; readers see the old or the new text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:  # a full disk: readers still see the old text
        temporary.unlink(missing_ok=True)
        raise


class InstanceStore:
    """Reads and writes the state directory. All methods are short and blocking."""

    def __init__(self, config: LocalCloudConfig) -> None:
        self._config = config
        self._next_index = 0
        self._writing = threading.Lock()
        """A change of a record is made of the newest one: threads tag and end instances at the same time."""

    def prepare(self) -> None:
        for path in (self._config.root, self._config.instances_dir, self._config.addresses_dir):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def directory(self, instance_id: str) -> Path:
        return self._config.instances_dir / instance_id

    def ids(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._config.instances_dir) if name.startswith("i-"))
        except FileNotFoundError:
            return []

    def load(self, instance_id: str) -> InstanceRecord | None:
        """The record, None when there is none that can be read (a machine's crash may have torn it)."""
        try:
            return InstanceRecord.from_text((self.directory(instance_id) / "instance.json").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
            return None

    def save(self, record: InstanceRecord) -> None:
        path = self.directory(record.instance_id)
        path.mkdir(exist_ok=True, mode=0o700)
        write_atomic(path / "instance.json", record.to_text())

    def save_user_data(self, instance_id: str, text: str) -> None:
        path = self.directory(instance_id)
        path.mkdir(exist_ok=True, mode=0o700)
        write_atomic(path / "user-data", text)

    def drop_unclaimed(self, before: float) -> None:
        """Remove what a process left that was killed between taking addresses and writing the record."""
        for path in self._config.addresses_dir.iterdir():
            record = self.load(path.read_text())
            if path.stat().st_mtime < before and (record is None or record.addresses.primary_ip != path.name):
                path.unlink(missing_ok=True)
        for path in self._config.instances_dir.iterdir():
            if path.stat().st_mtime >= before or self.load(path.name) is not None:
                continue
            identity = self.identity(path.name)
            if identity is None or not identity.is_alive():
                shutil.rmtree(path, ignore_errors=True)

    def identity(self, instance_id: str) -> ProcessIdentity | None:
        return ProcessIdentity.read(self.directory(instance_id) / "pid")

    def mark(
        self, record: InstanceRecord, state: InstanceState, reason: str, *, terminated_time: float = 0.0
    ) -> InstanceRecord:
        """Write the record with another state, and the tags that it has by now."""
        with self._writing:
            newest = self.load(record.instance_id) or record
            changed = replace(
                record, tags=newest.tags, state=state.value, state_reason=reason, terminated_time=terminated_time
            )
            self.save(changed)
        return changed

    def add_tags(self, instance_id: str, tags: Mapping[str, str]) -> None:
        """Write the record of an instance that has not ended with more tags. Raises CloudRequestError for too many."""
        with self._writing:
            record = self.load(instance_id)
            if record is None or record.state in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED):
                return
            changed = replace(record, tags={**record.tags, **tags})
            check_tags(changed.tags)
            self.save(changed)

    def clear_disk(self, instance_id: str) -> None:
        """Delete the directories of a dead instance, which hold nearly all that it takes (may take long)."""
        shutil.rmtree(self.directory(instance_id) / "disk", ignore_errors=True)

    def clear_directory(self, instance_id: str) -> None:
        """Delete all that a terminated instance leaves but its record (may take long)."""
        path = self.directory(instance_id)
        for entry in list(path.iterdir()) if path.exists() else []:
            if entry.name in ("instance.json", "lock"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def forget(self, instance_id: str) -> None:
        shutil.rmtree(self.directory(instance_id), ignore_errors=True)

    def allocate_addresses(self, instance_id: str) -> tuple[str, str]:
        """Take a free pair (primary, pod). Creating the file is the claim, so processes do not collide."""
        network = self._config.network
        pairs = (network.num_addresses - FIRST_ADDRESS_OFFSET - 1) // 2
        first = int(network.network_address) + FIRST_ADDRESS_OFFSET
        for step in range(pairs):
            index = (self._next_index + step) % pairs
            primary = str(ipaddress.IPv4Address(first + 2 * index))
            try:
                with open(self._config.addresses_dir / primary, "x") as file:
                    file.write(instance_id)
            except FileExistsError:
                continue
            except OSError:
                (self._config.addresses_dir / primary).unlink(missing_ok=True)
                raise
            self._next_index = index + 1
            return primary, str(ipaddress.IPv4Address(first + 2 * index + 1))
        raise CloudQuotaError(f"InsufficientFreeAddressesInSubnet: no free address in {network}")

    def release_addresses(self, instance_id: str, primary_ip: str) -> None:
        path = self._config.addresses_dir / primary_ip
        try:
            if path.read_text() == instance_id:
                path.unlink()
        except FileNotFoundError:
            pass
