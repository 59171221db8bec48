"""The pod of this worker, as those that act on it share it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.stopping import StopRequest


@dataclass(frozen=True, slots=True)
class OwnPod:
    """What is known of the pod, who tells its events, and whether it has to stop."""

    memory: PodMemory
    recorder: Recorder
    stop: StopRequest = field(default_factory=StopRequest)
