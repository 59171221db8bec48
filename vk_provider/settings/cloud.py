"""The table of the cloud, but for what belongs to one backend: that is a class of the backend's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vk_provider.cloud.backend import CloudBackend
from vk_provider.cloud.discovery import load_backend
from vk_provider.settings.build import NOT_A_KEY
from vk_provider.settingtypes import NonNegativeFloat, PositiveFloat


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Instances and their time limits.

    backend: which cloud, by the name that it is registered under: see cloud.discovery
    owner:   tags every instance, so it must be unique per cluster and set of Nodes
    boot_timeout_s: a new instance whose agent does not answer by then is replaced
    agent_monitor_grace_s: a pod whose agent is silent for longer is not Ready any more, as the pods of a Node whose
                           kubelet is silent (node-monitor-grace-period)
    orphan_sweep_s: between two looks for instances of ours that no pod claims; after two sightings they are terminated
    orphan_min_age_s: younger instances are left alone: what is listed may lag behind

    `own` is no key: what the table [cloud.<backend>] says, in the backend's class; None for its defaults
    """

    backend: str = "local"
    owner: str = "vk-provider"
    boot_timeout_s: PositiveFloat = 300.0
    agent_monitor_grace_s: PositiveFloat = 40.0
    orphan_sweep_s: PositiveFloat = 60.0
    orphan_min_age_s: NonNegativeFloat = 120.0
    own: Any = field(default=None, metadata=NOT_A_KEY)


def find_backend(settings: CloudSettings) -> tuple[CloudBackend[Any, Any], Any]:
    """The configured backend and its own settings. Raises BadStartError."""
    backend = load_backend(settings.backend)
    return backend, backend.settings() if settings.own is None else settings.own
