"""The table [cloud.simulated]."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.settingtypes import NonNegativeFloat


@dataclass(frozen=True, slots=True)
class SimulatedCloudSettings:
    """In-process agents that answer at once. Only for benchmarks and for trying out scheduling.

    launch_latency_s: of each launch call
    boot_latency_s:   until the agent of a new instance answers
    ipv6:             whether instances have IPv6 addresses, too
    """

    launch_latency_s: NonNegativeFloat = 0.0
    boot_latency_s: NonNegativeFloat = 0.0
    ipv6: bool = False
