"""activeDeadlineSeconds: a pod that is past it fails, whatever it does. Pure.

Source: pkg/kubelet/active_deadline.go (v1.37).
"""

from __future__ import annotations

from typing import Final

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import spec_of

DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
"""The reason, of the event, too."""
DEADLINE_MESSAGE: Final = "Pod was active on the node longer than the specified deadline"


def deadline_s(pod: Json) -> float | None:
    """Seconds from the pod's start time; None without a deadline."""
    seconds = spec_of(pod).get("activeDeadlineSeconds")
    return float(seconds) if seconds is not None else None
