"""Errors of volumes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vk_provider import eventreasons
from vk_provider.errors import AgentError
from vk_provider.eventreasons import EventReason


class VolumeError(AgentError):
    """A volume cannot be set up now; try again later. `reason` is the event's reason, str() its message. A failed
    end has no event: it is logged and tried again."""

    def __init__(self, message: str, reason: EventReason = eventreasons.FAILED_MOUNT) -> None:
        super().__init__(message)
        self.reason = reason


class VolumeErrors(VolumeError):
    """Some volumes cannot be set up now: one error, and one event, for each. str() is that of the first."""

    def __init__(self, errors: Sequence[VolumeError]) -> None:
        super().__init__(str(errors[0]), errors[0].reason)
        self.errors = tuple(errors)


def set_up_error(volume_name: str, cause: object) -> VolumeError:
    """Return the error of one volume's set-up, in the kubelet's words."""
    if isinstance(cause, OSError):
        cause = f"{cause.filename}: {error_text(cause)}" if cause.filename else error_text(cause)
    return VolumeError(f'MountVolume.SetUp failed for volume "{volume_name}" : {cause}')


def path_error(operation: str, error: OSError, path: str = "") -> str:
    """The text of Go's fs.PathError: operation, path, and what is wrong. path: default the error's own."""
    return f"{operation} {path or error.filename}: {error_text(error)}"


def error_text(error: OSError) -> str:
    """What is wrong, as Go's syscall.Errno says it: without the capital letter."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
