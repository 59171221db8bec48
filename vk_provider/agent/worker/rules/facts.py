"""What a pass over the pod decides by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.jsontypes import Json

ProbeResult = Literal["success", "failure", "unknown"]


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Newest results by container ID; a missing ID means the probe did not run yet."""

    liveness: Mapping[str, ProbeResult] = field(default_factory=dict)
    startup: Mapping[str, ProbeResult] = field(default_factory=dict)
    readiness: Mapping[str, ProbeResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """See core.compute_actions."""

    pod: Json
    observed: Observation
    probes: ProbeResults
    resize_restarts: frozenset[str]
