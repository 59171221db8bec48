"""The table [cloud.simulated]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from vk_provider.settingtypes import NonNegativeFloat

NonNegativeInt = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class SimulatedFaults:
    """What a real cloud does to its callers. All is drawn from `seed`, so the same calls at the same times meet the
    same faults. 0 is never.

    seed:             of what is drawn
    call_burst:       calls of each verb that may come at once; call_rate of them a second are earned again. More are
                      refused as RequestLimitExceeded
    call_rate:        as above
    resource_burst:   instances that may be launched, and likewise ended, at once; resource_rate a second are earned
                      again (EC2: 1000 and 2). More are refused as RequestLimitExceeded
    resource_rate:    as above
    no_capacity:      offerings without capacity, "type/zone/capacity type" with * for any
    capacity:         instances that each offering has at once
    max_instances:    the account's limit (InstanceLimitExceeded)
    max_vcpus:        the account's limit for each family (VcpuLimitExceeded)
    lost_answers:     share of the calls that are carried out and not answered (Unavailable)
    late_answers:     share of the calls that are answered late_s later
    late_s:           as above
    listing_lag_s:    a new instance is missing from listings, and a state is an old one there, for so long at most
    missing_share:    share of the instances that a listing lacks although they exist
    failed_boots:     share of the instances whose agent never answers
    slow_boots:       share of the instances whose agent answers slow_boot_s later
    slow_boot_s:      as above
    shutdown_s:       how long an instance is shutting-down, while what runs on it runs on
    kills_per_hour:   interruptions of each spot instance
    notice_s:         how long before the end an interruption is announced; without notices only the end is seen
    notices:          whether the cloud says by itself what it does
    unterminable:     share of the instances that cannot be terminated at the first three tries
    """

    seed: int = 1
    call_burst: NonNegativeInt = 0
    call_rate: NonNegativeFloat = 1.0
    resource_burst: NonNegativeInt = 0
    resource_rate: NonNegativeFloat = 2.0
    no_capacity: tuple[str, ...] = ()
    capacity: NonNegativeInt = 0
    max_instances: NonNegativeInt = 0
    max_vcpus: NonNegativeInt = 0
    lost_answers: Share = 0.0
    late_answers: Share = 0.0
    late_s: NonNegativeFloat = 0.0
    listing_lag_s: NonNegativeFloat = 0.0
    missing_share: Share = 0.0
    failed_boots: Share = 0.0
    slow_boots: Share = 0.0
    slow_boot_s: NonNegativeFloat = 0.0
    shutdown_s: NonNegativeFloat = 0.0
    kills_per_hour: NonNegativeFloat = 0.0
    notice_s: NonNegativeFloat = 120.0
    notices: bool = True
    unterminable: Share = 0.0


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
    faults: SimulatedFaults = field(default_factory=SimulatedFaults)
