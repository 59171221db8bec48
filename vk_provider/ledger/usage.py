"""Sums of spans: what runs now, and what was counted. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.ledger.span import HOUR_S, NANOS, Span


@dataclass(slots=True)
class Usage:
    """What is paid for now. nanos: nano-USD an hour of all, with the disks of stopped instances and the stores of
    images that are kept; instances: how many run, builders of such stores among them."""

    nanos: int = 0
    instances: int = 0


@dataclass(slots=True)
class Counted:
    """What was counted since the start of the process. seconds: in which instances ran, or that are paid for as if."""

    usd: float = 0.0
    seconds: float = 0.0


def count(counted: dict[tuple[str, str], Counted], span: Span, sign: int, now: float) -> None:
    """Add a span (sign 1) to the sums by its counter_key, or take it back (-1)."""
    found = counted.setdefault(span.counter_key, Counted())
    seconds = sign * span.counted_s(now)
    found.seconds += 0.0 if span.is_stopped else seconds
    found.usd += seconds / HOUR_S * span.rate_nanos / NANOS
