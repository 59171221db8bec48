"""What may be spent: limits of all instances, and of those of single namespaces, in USD an hour and in number.

What counts is what the meter says that is paid for (what runs, the disks of what is stopped, and, among all together,
what prepared images cost), and what was asked for in calls whose outcome is not known, at the price of the dearest
offering that the call may bring. Pods are served by priority and age: one that is held back lets none of a lower
priority pass where the same limit holds it, unless it could never fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vk_provider.cloud.base import Offering
from vk_provider.instances.demand import Demand
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.span import NANOS, to_nanos
from vk_provider.ledger.usage import Usage
from vk_provider.settings import BudgetSettings
from vk_provider.sizing.disks import DiskPlan

EACH = "*"
"""The quota of each namespace that has none of its own."""
NAMESPACES = "budget.namespaces."
"""How the keys of quotas begin."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """key: of the setting. namespace: None for all together. most: nano-USD an hour, or instances."""

    key: str
    namespace: str | None
    most: int
    is_of_money: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """One instance for a demand, at the price of its first offering with its root disk."""

    demand: Demand
    nanos: int


@dataclass(frozen=True, slots=True)
class Held:
    """Who waits for room. key: of the limit. message: the figures, and what can be done."""

    demand: Demand
    key: str
    message: str


@dataclass(slots=True, eq=False)
class Reservation:
    """Of one call: for `count` instances, each at `nanos` an hour at most. counted_nanos: so much of each is paid for
    already, as nobody's."""

    namespace: str
    count: int
    nanos: int
    counted_nanos: int = 0


@dataclass(slots=True)
class _Taken:
    """What was promised beyond what runs."""

    all: Usage = field(default_factory=Usage)
    by_namespace: dict[str, Usage] = field(default_factory=dict)

    def add(self, namespace: str, nanos: int, count: int, counted_nanos: int = 0) -> None:
        """counted_nanos: see Reservation; among all together it is counted already."""
        for usage, counted in ((self.all, counted_nanos), (self.by_namespace.setdefault(namespace, Usage()), 0)):
            usage.nanos += (nanos - counted) * count
            usage.instances += count
        if not self.by_namespace[namespace].instances:
            del self.by_namespace[namespace]

    def of(self, namespace: str | None) -> Usage:
        return self.all if namespace is None else self.by_namespace.get(namespace, _NOTHING)


_NOTHING = Usage()


class Budget:
    """Without I/O. is_limited: False: everything is granted."""

    def __init__(self, settings: BudgetSettings, meter: Meter) -> None:
        self._settings, self._meter = settings, meter
        self._common = list(_limits_of("budget", None, settings.usd_per_hour, settings.instances))
        self._of_namespaces: dict[str, list[_Limit]] = {}
        self._reserved = _Taken()
        self.is_limited = bool(self._common) or any(
            quota.usd_per_hour or quota.instances for quota in settings.namespaces.values()
        )

    # --- calls -------------------------------------------------------------------------------------------------------

    def reserve(self, namespace: str, count: int, nanos: int, counted_nanos: int = 0) -> Reservation:
        """See Reservation."""
        self._reserved.add(namespace, nanos, count, counted_nanos)
        return Reservation(namespace, count, nanos, counted_nanos)

    def release(self, reservation: Reservation) -> None:
        """The outcome of the call is known: the meter has what it brought."""
        self._reserved.add(reservation.namespace, reservation.nanos, -reservation.count, reservation.counted_nanos)

    def widen(
        self,
        reservation: Reservation,
        offerings: Sequence[Offering],
        disks: DiskPlan,
        *,
        cpu_milli: int = 0,
        has_store: bool = False,
    ) -> tuple[Offering, ...]:
        """Those of the offerings that the call may bring: not dearer than what is reserved, or as dear as there is room
        for beside all other reservations, which is then reserved, too. cpu_milli, has_store: see price_of."""
        if not self.is_limited:
            return tuple(offerings)
        rooms = [
            (limit.most - self._spent(limit)) // reservation.count
            for limit in self._limits(reservation.namespace)
            if limit.is_of_money
        ]
        most = reservation.nanos + max(0, min(rooms)) if rooms else None
        prices = [price_of(each, disks, cpu_milli=cpu_milli, has_store=has_store) for each in offerings]
        allowed = [price for price in prices if most is None or price <= most]
        chosen = tuple(each for each, price in zip(offerings, prices, strict=True) if most is None or price <= most)
        self.release(reservation)
        reservation.nanos = max([reservation.nanos, *allowed])
        self._reserved.add(reservation.namespace, reservation.nanos, reservation.count, reservation.counted_nanos)
        return chosen

    def price_of_owned(self, instance_id: str, offering: Offering, cpu_milli: int = 0) -> int:
        """Nano-USD an hour of an instance that is there, with its disks. cpu_milli: see price_of."""
        span = self._meter.find(instance_id)
        return (to_nanos(offering.compute_price(cpu_milli)) or 0) + (span.disk_nanos if span is not None else 0)

    def has_room(self, namespace: str, nanos: int, *, is_counted: bool = False, counted_nanos: int = 0) -> bool:
        """For one instance more. is_counted: it runs already, as nobody's, and would become the namespace's.
        counted_nanos: so much of it is paid for already, as nobody's: the disks of a stopped one."""
        for limit in self._limits(namespace):
            more = (nanos - (counted_nanos if limit.namespace is None else 0)) if limit.is_of_money else 1
            if self._spent(limit) + more > limit.most and not (is_counted and limit.namespace is None):
                return False
        return True

    # --- who is served -----------------------------------------------------------------------------------------------

    def allot(self, wanted: Iterable[Wanted]) -> tuple[list[Wanted], list[Held]]:
        """Who may be launched for now, in order, and who waits for room."""
        granted, held, taken = list[Wanted](), list[Held](), _Taken()
        closed: dict[tuple[str, str | None], int] = {}
        """A limit that holds back a pod of this priority."""
        for each in sorted(wanted, key=lambda each: each.demand.rank):
            demand = each.demand
            found = self._find_problem(each, taken, closed)
            if found is None:
                granted.append(each)
                taken.add(demand.namespace, each.nanos, 1)
                continue
            limit, message = found
            held.append(Held(demand, limit.key, message))
            if not limit.is_of_money or each.nanos <= limit.most:
                closed.setdefault((limit.key, limit.namespace), demand.priority)
        return granted, held

    def _find_problem(
        self, wanted: Wanted, taken: _Taken, closed: dict[tuple[str, str | None], int]
    ) -> tuple[_Limit, str] | None:
        for limit in self._limits(wanted.demand.namespace):
            before = closed.get((limit.key, limit.namespace))
            spent = self._spent(limit) + _part(taken.of(limit.namespace), limit)
            more = wanted.nanos if limit.is_of_money else 1
            if spent + more > limit.most:
                return limit, _explain(limit, spent, more, is_behind=False)
            if before is not None and before > wanted.demand.priority:
                return limit, _explain(limit, spent, more, is_behind=True)
        return None

    def _spent(self, limit: _Limit) -> int:
        return _part(self._meter.usage(limit.namespace), limit) + _part(self._reserved.of(limit.namespace), limit)

    def _limits(self, namespace: str) -> list[_Limit]:
        own = self._of_namespaces.get(namespace)
        if own is None:
            quotas = self._settings.namespaces
            name = namespace if namespace in quotas or not namespace else EACH
            quota = quotas.get(name)
            own = list(self._common)
            if quota is not None:
                own += _limits_of(f"{NAMESPACES}{name}", namespace, quota.usd_per_hour, quota.instances)
            self._of_namespaces[namespace] = own
        return own

    def limits(self) -> dict[tuple[str, str], float]:
        """(namespace, "usd_per_hour" or "instances") -> limit, for a metric; namespace "" for all together."""
        quotas = self._settings.namespaces
        found = [*self._common]
        for name, quota in quotas.items():
            found += _limits_of("", name, quota.usd_per_hour, quota.instances)
        return {
            (limit.namespace or "", "usd_per_hour" if limit.is_of_money else "instances"): (
                limit.most / NANOS if limit.is_of_money else float(limit.most)
            )
            for limit in found
        }


def price_of(offering: Offering, disks: DiskPlan, *, cpu_milli: int = 0, has_store: bool = False) -> int:
    """Nano-USD an hour of an instance with its root disk. cpu_milli: that are used all the time. has_store: and with
    the disk of a prepared store, of which the least price is known."""
    store_price = offering.traits.volume_rates.store_price if has_store else 0.0
    parts = (offering.compute_price(cpu_milli), disks.compute_full_price(offering), store_price)
    return sum(to_nanos(part) or 0 for part in parts)


def _limits_of(key: str, namespace: str | None, usd_per_hour: float, instances: int) -> Iterable[_Limit]:
    if usd_per_hour:
        yield _Limit(f"{key}.usd_per_hour", namespace, round(usd_per_hour * NANOS), True)
    if instances:
        yield _Limit(f"{key}.instances", namespace, instances, False)


def _part(usage: Usage, limit: _Limit) -> int:
    return usage.nanos if limit.is_of_money else usage.instances


def _explain(limit: _Limit, spent: int, more: int, *, is_behind: bool) -> str:
    whose = "all instances" if limit.namespace is None else f"the instances of namespace {limit.namespace}"
    if not limit.is_of_money:
        what = f"{spent} of at most {limit.most} for {whose} ({limit.key})"
        text = f"there are {what}"
    else:
        cost, most = f"${spent / NANOS:.4f}", f"${limit.most / NANOS:.4f}"
        text = (
            f"an instance for ${more / NANOS:.4f} an hour is needed, and {whose} cost {cost} of at most {most} an hour"
        )
        text += f" ({limit.key})"
        if more > limit.most:
            return f"{text}: it can never fit; lower the pod's requests or raise the limit"
    behind = "pods of a higher priority wait for what is left; " if is_behind else ""
    return f"{text}; {behind}tried again when there is room: delete pods, or raise the limit"
