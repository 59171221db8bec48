"""The one exception tree. Every error that a room raises on purpose derives from VkError."""

from __future__ import annotations

EXIT_BAD_START = 3
"""Exit code of a process that cannot start as configured; a supervisor must not restart it in a loop."""


class VkError(Exception):
    """Base of all errors raised on purpose; str() is one line that a user can act on."""


class BadStartError(VkError):
    """The configuration or the machine does not allow a start: one clear line, exit code 3."""


class KubeApiError(VkError):
    """The API server answered with an error Status.

    `status` is the HTTP status code (0: no answer at all), `reason` the metav1.Status reason ("NotFound", "Conflict").
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Also an object that exists already, and a precondition that does not hold."""
        return self.status == 409

    @property
    def is_expired(self) -> bool:
        """The resourceVersion or the continue token is too old: list again."""
        return self.status == 410

    @property
    def is_invalid(self) -> bool:
        """The API server can never accept this body."""
        return self.status in (400, 422)

    @property
    def is_forbidden(self) -> bool:
        return self.status == 403

    @property
    def is_unauthorized(self) -> bool:
        return self.status == 401

    @property
    def is_refusal(self) -> bool:
        """The API server understood and refused; the same request will be refused again (but for throttling)."""
        return 400 <= self.status < 500 and self.status != 429


class CloudError(VkError):
    """A cloud call failed. `retryable`: the same call may succeed later, nothing may be concluded from it."""

    retryable = True


class CapacityError(CloudError):
    """The cloud has no capacity (EC2 InsufficientInstanceCapacity) for one offering now; try the next offering."""

    def __init__(self, message: str, instance_type: str = "", zone: str = "", capacity_type: str = "") -> None:
        super().__init__(message)
        self.instance_type, self.zone, self.capacity_type = instance_type, zone, capacity_type


class CloudQuotaError(CloudError):
    """An account limit or the subnet's addresses are exhausted: retry slowly and tell the user."""


class CloudRequestError(CloudError):
    """The request can never succeed as it is (bad parameter, missing permission)."""

    retryable = False


class AgentError(VkError):
    """A call to an agent failed."""


class AgentUnreachableError(AgentError):
    """No TCP/TLS connection to the agent (booting, dead, partitioned)."""


class AgentIdentityError(AgentError):
    """What answers at the instance's address does not prove to be that instance: never talk to it."""


class AgentProtocolError(AgentError):
    """The agent broke the contract of the session: an error of that session alone."""


class AgentVersionError(AgentError):
    """Provider and agent share no wire version."""
