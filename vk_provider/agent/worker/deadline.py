"""activeDeadlineSeconds: a pod that is past it fails, whatever else it ends for.

Source: active_deadline.go and generateAPIPodStatus of the kubelet (v1.37): each status that is generated asks, also
those at the beginning and at the end of SyncTerminatingPod and that of SyncTerminatedPod.
"""

from __future__ import annotations

import time

from vk_provider import eventreasons
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.podstate import remaining_deadline_s
from vk_provider.podmodel.deadline import DEADLINE_EXCEEDED, DEADLINE_MESSAGE
from vk_provider.podmodel.status import PodEnd
from vk_provider.rfc3339 import parse_time


class ActiveDeadline:
    """Of one pod."""

    def __init__(self, memory: PodMemory, recorder: Recorder) -> None:
        self._memory, self._recorder = memory, recorder

    def remaining_s(self) -> float | None:
        """Seconds until it is over (<= 0: it is over); None without a deadline."""
        start_time = self._memory.status.get("startTime")
        started_at_s = parse_time(start_time) if start_time else 0.0
        return remaining_deadline_s(self._memory.pod, started_at_s, time.time())

    def enforce(self) -> bool:
        """Past the deadline, make it why the pod ends, and tell it; return whether it is past.

        It takes the place of another cause. That the pod was disrupted stays true.
        """
        remaining_s = self.remaining_s()
        if remaining_s is None or remaining_s > 0:
            return False
        cause = self._memory.end
        if cause is None or cause.reason != DEADLINE_EXCEEDED:
            self._recorder.note(eventreasons.DEADLINE_EXCEEDED, DEADLINE_MESSAGE)
            disruption = cause is not None and cause.disruption
            self._memory.end = PodEnd(DEADLINE_EXCEEDED, DEADLINE_MESSAGE, disruption=disruption)
        return True
