"""The exception hierarchy. Every error that is raised on purpose derives from VkError."""

from __future__ import annotations

from http import HTTPStatus

EXIT_BAD_START = 3
"""Exit code of a process that cannot start as configured; a supervisor must not restart it in a loop."""
NO_ANSWER = 0
"""`KubeApiError.status` when there is no HTTP status: no connection, a timeout, or an answer that cannot be read."""


class VkError(Exception):
    """Base of all errors raised on purpose; str() is one line that a user can act on."""


class BadStartError(VkError):
    """The configuration or the machine does not allow a start: one clear line, exit code 3."""


class KubeApiError(VkError):
    """The API server answered with an error Status.

    `status` is the HTTP status code (NO_ANSWER: no usable answer), `reason` the metav1.Status reason ("NotFound").
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason

    @property
    def is_not_found(self) -> bool:
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """Also an object that exists already, and a precondition that does not hold."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def is_other_uid(self) -> bool:
        """The object is not the one that was meant: another one has its name. A PATCH with the wrong metadata.uid is
        invalid, as the field is immutable; a DELETE with the wrong precondition is a conflict, in the words of the one
        that sees it first (apiserver pkg/registry/rest/delete.go, pkg/storage/interfaces.go)."""
        text = str(self)
        if self.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return "metadata.uid: Invalid value" in text
        return self.is_conflict and ("UID in the precondition" in text or "UID in precondition" in text)

    @property
    def is_expired(self) -> bool:
        """The resourceVersion or the continue token is too old: list again."""
        return self.status == HTTPStatus.GONE

    @property
    def is_invalid(self) -> bool:
        """The API server can never accept this body."""
        return self.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)

    @property
    def is_forbidden(self) -> bool:
        return self.status == HTTPStatus.FORBIDDEN

    @property
    def is_unauthorized(self) -> bool:
        return self.status == HTTPStatus.UNAUTHORIZED

    @property
    def is_throttled(self) -> bool:
        """The request was not executed: the same one may succeed later."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS

    @property
    def is_server_error(self) -> bool:
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def is_unanswered(self) -> bool:
        """No connection, a timeout, or an answer that cannot be read."""
        return self.status == NO_ANSWER

    @property
    def is_refusal(self) -> bool:
        """The API server understood the request and will refuse it again; throttling is no refusal."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR and not self.is_throttled


class CloudError(VkError):
    """A cloud call failed.

    retryable:      the same call may succeed later
    effect_unknown: the call may have taken effect although it was not answered: what it would have made is looked up
                    before it is repeated, and it is repeated unchanged
    """

    retryable = True
    effect_unknown = True


class CloudThrottledError(CloudError):
    """Too many calls (EC2 RequestLimitExceeded): nothing was done. The queue of the verb waits, not the single call.

    retry_after_s: what the cloud asks for; 0.0 when it does not say
    """

    effect_unknown = False

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CapacityError(CloudError):
    """The cloud has no capacity (EC2 InsufficientInstanceCapacity) now; another offering may have some.

    instance_type, zone, capacity_type: what is short; "" for any, all three "" for the offering that was asked for
    """

    effect_unknown = False

    def __init__(self, message: str, instance_type: str = "", zone: str = "", capacity_type: str = "") -> None:
        super().__init__(message)
        self.instance_type, self.zone, self.capacity_type = instance_type, zone, capacity_type


class CloudQuotaError(CloudError):
    """A limit of the account is reached: retry slowly, and report it to the user.

    family: the instance types that it holds for, such as "m7i"; "" for all
    """

    effect_unknown = False

    def __init__(self, message: str, family: str = "") -> None:
        super().__init__(message)
        self.family = family


class CloudAccessError(CloudError):
    """The account answers no call at the moment: its credentials have expired or cannot be read, it is suspended or not
    verified yet. Nothing was done; the same call may succeed when somebody has seen to it."""

    effect_unknown = False


class CloudRequestError(CloudError):
    """The request can never succeed as it is (bad parameter, missing permission)."""

    retryable = False
    effect_unknown = False


class AgentError(VkError):
    """A call to an agent failed."""


class AgentUnreachableError(AgentError):
    """No TCP/TLS connection to the agent (booting, dead, partitioned)."""


class AgentIdentityError(AgentError):
    """The peer at the instance's address cannot prove to be that instance: it must be sent nothing."""


class AgentProtocolError(AgentError):
    """The agent violated the contract of the session: an error of that session alone."""


class AgentVersionError(AgentError):
    """Provider and agent share no wire version."""
