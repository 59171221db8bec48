"""The tables about money: what may be spent, and where it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from vk_provider.settingtypes import NonNegativeFloat, PositiveFloat, PositiveInt

NonNegativeInt = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class NamespaceQuota:
    """Of one namespace; 0 is no limit.

    usd_per_hour: what its instances may cost together
    instances:    how many it may have
    """

    usd_per_hour: NonNegativeFloat = 0.0
    instances: NonNegativeInt = 0


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """Limits of what runs at a time. A pod that would exceed one stays Pending, with an event (BudgetExceeded), until
    there is room: pods of a higher priority first. What runs is never ended for it. Instances that prepare images
    count, too. 0 is no limit.

    usd_per_hour: what all instances may cost together with their disks, and the disks of stopped ones, by the prices
                  of the cloud's catalog, and the snapshots of prepared images
    instances:    how many there may be
    namespaces:   the same for single namespaces, by name; "*" is each that is not named
    """

    usd_per_hour: NonNegativeFloat = 0.0
    instances: NonNegativeInt = 0
    namespaces: Mapping[str, NamespaceQuota] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where costs are written down. A file that cannot be used is named in the log and by the metric vk_ledger_failed;
    pods are never stopped for it.

    file:      of SQLite, on a local disk, for one provider; "" keeps costs in memory until the provider ends
    keep_days: what has ended longer ago is forgotten
    max_bytes: of the file; what has ended longest ago makes room
    flush_s:   between two writes: as much of the newest history is lost at most when the process is killed
    """

    file: str = "/var/lib/vk-provider/ledger.sqlite3"
    keep_days: PositiveFloat = 400.0
    max_bytes: PositiveInt = 2**30
    flush_s: PositiveFloat = 10.0
