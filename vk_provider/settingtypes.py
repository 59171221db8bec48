"""Types of settings that have limits: a table's class says with them what a value may be; the loader refuses others.

A limit is a `msgspec.Meta` of the annotation; its `description`, if any, is what the refusal says the value must be.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

PositiveInt = Annotated[int, Meta(gt=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
"""Limits, sizes and intervals: with 0 or less the provider would hang or loop without a pause."""
NonNegativeFloat = Annotated[float, Meta(ge=0)]
TcpPort = Annotated[int, Meta(ge=0, le=65535, description="a TCP port")]
