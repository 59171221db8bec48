"""Errors of volumes."""

from __future__ import annotations

from vk_provider.errors import AgentError


class VolumeError(AgentError):
    """A volume cannot be set up now; try again later. `reason` is the event's reason, str() its message."""

    def __init__(self, message: str, reason: str = "FailedMount") -> None:
        super().__init__(message)
        self.reason = reason


def set_up_error(volume_name: str, cause: object) -> VolumeError:
    """Return the error of one volume's set-up, in the kubelet's words."""
    if isinstance(cause, OSError) and cause.filename:
        cause = f"{cause.filename}: {cause.strerror}"
    return VolumeError(f'MountVolume.SetUp failed for volume "{volume_name}" : {cause}')
