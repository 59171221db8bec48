"""Values that an agent may send, each with its limit. `wire.inbound` decodes by them; a value beyond its limit is a
violation of the contract.

The limits are those of the Kubernetes API where it has one, else a multiple of what a working agent sends.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_INTEGER = 2**63 - 1

Counter = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""Bytes, nanoseconds, inodes, pages: an uint64 of the API, as far as an int64 goes."""
Count32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
UserId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Figure = Annotated[float, Meta(ge=0, le=float(2**63))]
"""A sample of a metric. JSON has no infinity and no NaN."""

_LONG = r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
_SHORT = r"(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
_LEAP = r"(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29"
_DATE = rf"(?:[1-9][0-9]{{3}}-(?:{_LONG}|{_SHORT})|{_LEAP})"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
_QUANTITY = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?\Z"
"""The form of apimachinery's resource.ParseQuantity, which fails for an exponent beyond an int64."""
Timestamp = Annotated[str, Meta(max_length=30, pattern=rf"^{_DATE}T{_TIME}Z\Z")]
"""RFC 3339 in UTC, of a day that the calendar has: one that it has not, or a year 10000 elsewhere, makes clients refuse
the whole document that it stands in. Agents write no other zone."""
Uid = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9-]*\Z")]
Grant = Annotated[str, Meta(max_length=128, pattern=r"^[0-9a-f/]*\Z")]
"""See agentclient.grants."""
ContainerName = Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")]
"""A DNS label, as the API demands it of containers."""
Name = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Reference = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""Of an image, a container or a mount: one line."""
Reason = Annotated[str, Meta(max_length=128, pattern=r"^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?\Z")]
"""A metav1.Condition's reason, or none."""
ReasonText = Annotated[str, Meta(max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*\Z")]
FieldPath = Annotated[str, Meta(max_length=512, pattern=r"^[A-Za-z0-9.{}\[\]_-]*\Z")]
Address = Annotated[str, Meta(max_length=45, pattern=r"^[0-9a-fA-F:.]*\Z")]
Quantity = Annotated[str, Meta(max_length=64, pattern=_QUANTITY)]
ResourceName = Annotated[str, Meta(max_length=317, pattern=r"^[A-Za-z0-9._/-]+\Z")]
MetricName = Annotated[str, Meta(max_length=128, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*\Z")]
LabelName = Annotated[str, Meta(max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*\Z")]
Text = Annotated[str, Meta(max_length=32_768)]
"""A message for people, of a container or a condition; a kubelet cuts termination messages at 4 KiB."""
MAX_EVENT_TEXT = 11 * 1024
"""Characters of an Event's message: a probe's output, which a kubelet cuts at 10 KiB, with the words before it. The API
limits it in events.k8s.io only, to 1,024, and not in core/v1, where a kubelet's events go."""
EventText = Annotated[str, Meta(max_length=MAX_EVENT_TEXT)]


def as_counter(value: int) -> int:
    """The Counter that is nearest. A file system may say that less than nothing is in use."""
    return max(0, min(MAX_INTEGER, value))
