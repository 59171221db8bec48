"""What one instance has before its first process starts: directories, a containerd root, a control group, boot.json."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vk_provider.cloud.local import boot, userns
from vk_provider.cloud.local.cgroup import InstanceCgroup
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.prepared import LocalImageStores
from vk_provider.cloud.local.shared import share_directories
from vk_provider.cloud.local.source_guard import SourceGuard
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore


class Preparation:
    """Prepares instances out of what all of them share; known from the start of the cloud on.

    template:     the boot specification to fill in
    cgroup_of:    the control group of an instance, which may not be there yet
    """

    def __init__(
        self,
        config: LocalCloudConfig,
        store: InstanceStore,
        template: boot.BootSpec,
        image_stores: LocalImageStores,
        cgroup_of: Callable[[InstanceRecord], InstanceCgroup],
    ) -> None:
        self.template, self.image_stores = template, image_stores
        self._config, self._store = config, store
        self._cgroup_of = cgroup_of
        self._guard = SourceGuard(config)

    def prepare(self, record: InstanceRecord) -> None:
        """Write and link everything that the first process needs (blocking). Raises CloudError, BadStartError,
        OSError."""
        directory = self._store.directory(record.instance_id)
        if self._store.identity(record.instance_id) is not None:
            return  # a launcher of an earlier process was faster
        with self.image_stores.use(record.image_store) as images:
            shutil.rmtree(directory / "disk", ignore_errors=True)  # of a launch that was cut off
            images.make_root(directory / "disk" / "containerd")
            make_disk(directory / "disk")
            self._write_boot(record, directory, images.path)

    def _write_boot(self, record: InstanceRecord, directory: Path, images: Path) -> None:
        group = self._cgroup_of(record)
        group.create(record.memory_bytes)
        template = replace(self.template, images=str(images))
        spec = boot.fill(template, record, str(directory), group, share_directories(self._config, record))
        group.delegate(userns.host_id(spec.slot))
        self._guard.admit(record.addresses.primary_ip)
        (directory / "boot.json").write_text(spec.to_text())


def make_disk(disk: Path) -> None:
    """What is missing of an instance's own directories."""
    for name in (*boot.DISK_DIRECTORIES, "log/pods", "log/containers"):
        (disk / name).mkdir(parents=True, exist_ok=True, mode=0o755)
