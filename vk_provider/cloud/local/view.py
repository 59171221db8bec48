"""What an instance is by now: by its record and by the machine's processes."""

from __future__ import annotations

import time
from collections.abc import Callable

from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.ends import InstanceEnds
from vk_provider.cloud.local.store import InstanceStore

LAUNCH_GRACE_S = 30.0
"""A pending instance without a first process is terminated after this (its launcher died before starting it)."""


class InstanceView:
    """is_launching: whether a launch of the instance with that ID is under way in this process."""

    def __init__(
        self, config: LocalCloudConfig, store: InstanceStore, ends: InstanceEnds, is_launching: Callable[[str], bool]
    ) -> None:
        self._config, self._store, self._ends = config, store, ends
        self._is_launching = is_launching

    def observe(self, instance_id: str) -> Instance | None:
        """The instance, None for one that is not known. Begins to clean up after one that has ended by itself, and
        removes old records. Reads some files."""
        record = self._store.load(instance_id)
        if record is None:
            return None
        if record.state == InstanceState.TERMINATED:
            if time.time() - record.terminated_time > self._config.remember_s:
                self._store.forget(instance_id)
                return None
            return record.to_instance(InstanceState.TERMINATED)
        if record.state == InstanceState.SHUTTING_DOWN:
            self._ends.clean_up(record, record.state_reason)
            return record.to_instance(InstanceState.SHUTTING_DOWN)
        identity = self._store.identity(instance_id)
        if identity is not None and identity.is_alive():
            return record.to_instance(InstanceState.RUNNING)
        if identity is None and (self._is_launching(instance_id) or time.time() - record.launch_time < LAUNCH_GRACE_S):
            return record.to_instance(InstanceState.PENDING)
        reason = self._find_death_reason(instance_id, never_started=identity is None)
        self._ends.clean_up(record, reason)
        return record.to_instance(InstanceState.TERMINATED, reason)

    def _find_death_reason(self, instance_id: str, *, never_started: bool) -> str:
        """Why it has ended by itself, as a message of EC2's state reasons."""
        if never_started:
            return "Server.InternalError: the launch was interrupted before the instance started"
        try:
            lines = (self._store.directory(instance_id) / "console.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        if lines and "Error" in lines[-1]:
            said = [line for line in lines if not line.startswith(("Traceback", " "))]
            return f"Server.InternalError: {'; '.join(said[-3:])}"
        return "Client.InstanceInitiatedShutdown: the instance's first process ended"
