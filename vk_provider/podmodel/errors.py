"""Errors of podmodel. Messages are the kubelet's texts: they are used in pod statuses and events."""

from __future__ import annotations

from vk_provider.errors import VkError


class PodModelError(VkError):
    """Base: the pod asks for something that cannot be resolved now (a missing object) or ever (a bad field)."""


class ContainerConfigError(PodModelError):
    """A container cannot be configured. `reason` is the waiting reason: CreateContainerConfigError and alike."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


class MissingReferenceError(PodModelError):
    """An object that a volume or variable refers to does not exist or could not be read; str() is the kubelet's text.

    `not_found`: the object is known to be absent, which is what `optional: true` forgives.
    """

    def __init__(self, message: str, not_found: bool = False) -> None:
        super().__init__(message)
        self.not_found = not_found


class InvalidImageName(PodModelError):
    """The image reference does not parse; the container waits with InvalidImageName."""


class InvalidHostnameError(PodModelError):
    """No valid host name can be formed; the sandbox cannot be created (FailedCreatePodSandBox)."""


class ResolvConfError(PodModelError):
    """The instance's resolv.conf cannot be read; the sandbox cannot be created (FailedCreatePodSandBox)."""


class QuantityError(PodModelError, ValueError):
    """A resource quantity does not parse."""
