"""EC2's error codes as the errors of the cloud Protocol: what to do after each.

Source: the error codes of the EC2 API reference, and its chapter on request throttling. Every backend uses these codes
in its messages, so that one text means one thing whatever the cloud.
"""

from __future__ import annotations

from vk_provider.cloud.base import Offering
from vk_provider.errors import (
    CapacityError,
    CloudAccessError,
    CloudError,
    CloudQuotaError,
    CloudRequestError,
    CloudThrottledError,
)

ANOTHER_OFFERING = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "UnfulfillableCapacity",
        "Unsupported",
        "SpotMaxPriceTooLow",
    }
)
"""This offering has none now."""
ANOTHER_CAPACITY_TYPE = frozenset({"MaxSpotInstanceCountExceeded"})
"""No offering of this capacity type."""
ANOTHER_ZONE = frozenset({"InsufficientFreeAddressesInSubnet"})
"""No offering in this zone: its subnet is full."""
FAMILY_FULL = frozenset({"VcpuLimitExceeded", "InstanceLimitExceeded"})
"""The account is full for this family."""
WAIT = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "EC2ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
    }
)
"""Nothing was done: call again, later."""
NO_ACCESS = frozenset(
    {
        "AuthFailure",
        "Blocked",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Nothing was done, and no other call will be answered either until somebody has seen to the account or its
credentials."""
UNKNOWN = frozenset({"Unavailable", "ServiceUnavailable", "InternalError", "InternalFailure", "RequestTimeout"})
"""It may have been done: look it up, then repeat the same call."""


def build_error(code: str, message: str, offering: Offering | None = None, retry_after_s: float = 0.0) -> CloudError:
    """The error for a code. offering: the one that was tried, where there is one. A code that nobody knows is a
    refusal: a request that is repeated for ever helps nobody."""
    text = f"{code}: {message}"
    if code in WAIT:
        return CloudThrottledError(text, retry_after_s)
    if code in NO_ACCESS:
        return CloudAccessError(text)
    if code in UNKNOWN:
        return CloudError(text)
    if code in FAMILY_FULL:
        return CloudQuotaError(
            text, family_of(offering) if offering is not None and code == "VcpuLimitExceeded" else ""
        )
    if offering is not None and code in ANOTHER_CAPACITY_TYPE:
        return CapacityError(text, capacity_type=offering.capacity_type)
    if offering is not None and code in ANOTHER_ZONE:
        return CapacityError(text, zone=offering.zone)
    if offering is not None and code in ANOTHER_OFFERING:
        return CapacityError(text, offering.instance_type, offering.zone, offering.capacity_type)
    return CloudRequestError(text)


def code_of(error: CloudError) -> str:
    """The code that an error of build_error begins with."""
    return str(error).partition(":")[0]


def family_of(offering: Offering) -> str:
    """ "m7i" of "m7i.large"."""
    return offering.instance_type.partition(".")[0]
