"""Configuration of the simulated cloud: the settings, and what only tests set."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vk_provider.cloud.simulated.settings import SimulatedCloudSettings


@dataclass(frozen=True, slots=True)
class SimulationConfig(SimulatedCloudSettings):
    """Beside the settings: visible_after_s: how long a new instance is missing from listings (eventual consistency);
    remember_s: how long terminated ones are listed; job_run_s: how long pods of a Job run before they succeed;
    page_size: instances on one page of a listing."""

    visible_after_s: float = 0.0
    remember_s: float = 600.0
    max_instances: int = 100_000
    job_run_s: float = 1.0
    page_size: int = 1000


def configure(settings: SimulatedCloudSettings) -> SimulationConfig:
    """The configuration that the settings describe."""
    return SimulationConfig(**{item.name: getattr(settings, item.name) for item in fields(settings)})
