"""What makes a container not start: the waiting reason and message that its status shows."""

from __future__ import annotations

from vk_provider.errors import AgentError


class StartError(AgentError):
    """A container was not started. `reason` is the kubelet's waiting reason, str() the message.

    retry_at_s: when it makes sense to try again (seconds since the epoch), None: at the usual pace
    """

    def __init__(self, reason: str, message: str, retry_at_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_at_s = retry_at_s


class InterruptedByStop(AgentError):
    """The pod is to be stopped: what was under way is given up."""
