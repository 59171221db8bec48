"""Counts in memory what is paid for, for whom and at what price. Without I/O; `clock` is Unix seconds.

An instance costs from its launch time on, until it is seen in another state than `pending` or `running`, until its
termination was accepted, or, when the cloud stops to list it, until it was seen last. While it is stopped its disks
cost (`resting`), and stores of prepared images do while they are kept (`keeping`). What is known later corrects the
end: a listing that says when an instance has ended, or that one runs on long after its termination, or after a notice:
others may write into the queue of notices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from vk_provider.cloud.base import TAG_NODE, Instance, InstanceState
from vk_provider.cloud.imagestores import KeptStore
from vk_provider.ledger.keeping import Keeping
from vk_provider.ledger.prices import PriceOf, Prices, Repricing
from vk_provider.ledger.resting import Account, Resting
from vk_provider.ledger.span import (
    HOUR_S,
    NANOS,
    PLAIN_TERMS,
    Owner,
    RunTerms,
    Span,
    SpanState,
    is_costing,
    owner_of_tags,
)
from vk_provider.ledger.usage import Counted, Usage, count

ABSENT_S = 600.0
"""An instance that no listing shows for so long, and that nobody looks after, has ended when it was seen last."""
DOUBT_S = 60.0
"""A listing may show what was so long ago: what runs by one that is newer than a notice of its end has not ended."""
REMEMBERED_S = HOUR_S
"""For so long after its end nothing old that a listing shows begins an instance anew."""
MAX_REMEMBERED = 50_000


class Meter:
    """`on_less` is called when what runs costs less than before. changed: what the store does not have yet, by (ID,
    since)."""

    def __init__(
        self,
        price_of: PriceOf,
        clock: Callable[[], float] = time.time,
        disk_price_of: PriceOf = lambda instance: 0.0,
        terms: RunTerms = PLAIN_TERMS,
    ) -> None:
        """price_of, disk_price_of, terms: see Prices."""
        self.prices = Prices(price_of, disk_price_of, terms)
        self.clock = clock
        self._running: dict[str, Span] = {}
        self._over: dict[str, Span] = {}
        """The newest span of those that do not run."""
        self._told: dict[str, float] = {}
        """When a notice has told the end of an instance, by ID."""
        self._usage: dict[str, Usage] = {}
        self._all = Usage()
        self._counted: dict[tuple[str, str], Counted] = {}
        self._restored_at = 0.0
        self.changed: dict[tuple[str, float], Span] = {}
        self.on_less: Callable[[], None] = lambda: None
        account = Account(self._note, self._use, self._count, self._discount, lambda: self.on_less())
        self.repricing = Repricing(self.prices, account, self._is_running, self._put)
        self._resting = Resting(account)
        self._keeping = Keeping(account)

    def restore(self, spans: Iterable[Span]) -> None:
        """What an earlier process has left: whether it runs on, a listing says."""
        self._restored_at = self.clock()
        for span in spans:
            span.seen_at, span.counted_from = span.until, span.paid_until
            if span.is_of_store:
                self._keeping.restore(span)
                continue
            if span.is_stopped:
                self._resting.restore(span, self._restored_at)
                continue
            if span.state is SpanState.RUNNING:
                span.state = SpanState.UNSURE
                self._note(span)
            known = self._over.get(span.instance_id)
            if span.instance_id not in self._running and (known is None or known.since <= span.since):
                self._over[span.instance_id] = span
                if span.state is SpanState.ENDED:  # by whose word, nobody knows any more
                    self._told[span.instance_id] = span.until
            self.repricing.watch(span)

    # --- what is seen ------------------------------------------------------------------------------------------------

    def see(self, instance: Instance) -> None:
        """As a launch answer or a listing describes it."""
        now = self.clock()
        span = self._running.get(instance.instance_id)
        known = self.find(instance.instance_id)
        if known is not None and not known.launched:
            known.launched = instance.launch_time
        if span is None:
            self._see_anew(instance, now)
        elif is_costing(instance):
            span.seen_at = now
            if span.price_nanos is None:
                self.repricing.complete(span, instance)
        else:
            is_told = 0.0 < instance.ended_at <= now
            state = SpanState.STOPPED if _may_run_again(instance) else SpanState.ENDED
            self._end(span, instance.ended_at if is_told else span.seen_at, state, is_estimated=not is_told)
        self._see_rest(instance, now)

    def _see_rest(self, instance: Instance, now: float) -> None:
        """Whether it is stopped, by the same description."""
        known = self.find(instance.instance_id)
        ended_at = instance.ended_at if instance.ended_at <= now else 0.0
        if _may_run_again(instance):
            if known is None:
                known = self._span(instance, instance.launch_time or now, SpanState.STOPPED)
                known.until = ended_at or now
            if known.state is SpanState.STOPPED:
                self._resting.see(known, known.until, now)
        elif not is_costing(instance):
            self._resting.end(instance.instance_id, ended_at, now)

    def take(self, instances: Iterable[Instance], ours: Callable[[str], bool]) -> None:
        """A complete listing. ours: whether somebody else looks after an instance that is not listed."""
        listed = set()
        for instance in instances:
            listed.add(instance.instance_id)
            self.see(instance)
        now = self.clock()
        for instance_id, span in list(self._running.items()):
            if instance_id not in listed and not ours(instance_id) and now - span.seen_at > ABSENT_S:
                self._end(span, span.seen_at, SpanState.MISSING, is_estimated=True)
        self._resting.take(listed, ours, now, ABSENT_S)
        self._forget_old(now, listed)

    def ended(self, instance_id: str, state: InstanceState = InstanceState.SHUTTING_DOWN) -> None:
        """It ends now: the cloud has accepted its termination."""
        self._told.pop(instance_id, None)
        span = self._running.get(instance_id)
        stopped = state in (InstanceState.STOPPING, InstanceState.STOPPED)
        if not stopped:
            self._resting.end(instance_id, self.clock(), self.clock())
        if span is not None:
            self._end(span, self.clock(), SpanState.STOPPED if stopped else SpanState.ENDED)

    def told(self, instance_id: str, state: InstanceState) -> None:
        """It ends now, as a notice says: until a listing says otherwise."""
        if instance_id in self._running:
            self.ended(instance_id, state)
            self._told[instance_id] = self.clock()

    def started(self, instance: Instance) -> None:
        """The cloud has accepted to start it again, now."""
        now, span = self.clock(), self._over.get(instance.instance_id)
        if instance.instance_id not in self._running:
            began = self._span(instance, now, SpanState.RUNNING) if span is None else span.continue_for(span.owner, now)
            began.launched, began.priced_until, began.least_until = now, 0.0, self.prices.find_least_until(now)
            self._run(began, now)

    def runs_on(self, instance_id: str) -> None:
        """It has not ended, although its termination was accepted."""
        span = self._over.get(instance_id)
        if span is not None and span.state is SpanState.ENDED:
            self._resume(span, self.clock())

    def missing(self, instance_id: str) -> None:
        """It does not exist any more."""
        span = self._running.get(instance_id)
        if span is not None:
            self._end(span, span.seen_at, SpanState.MISSING, is_estimated=True)
        self._resting.missing(instance_id, self.clock())

    def keep(self, kept: Iterable[KeptStore]) -> None:
        """All stores of prepared images that are kept now."""
        self._keeping.take(kept, self.clock())

    def assign(self, instance_id: str, owner: Owner, steady_cpu_milli: int | None = None) -> None:
        """It is for this pod from now on. The time in which it booted for a pod of the namespace is that pod's, too.
        steady_cpu_milli: what the pod is expected to use all the time, where the launch did not know it."""
        span = self._running.get(instance_id)
        if span is None or span.owner == owner:
            return
        before, now = span.owner, self.clock()
        waited = not before.pod_uid and before.namespace == owner.namespace
        if waited or before.pod_uid == owner.pod_uid or now <= span.since:
            self._use(span, -1)
            span.owner = owner
            self._set_burst(span, steady_cpu_milli)
            self._use(span, 1)
            self._note(span)
            return
        self._end(span, now, SpanState.PASSED_ON)
        rest = span.continue_for(owner, now)
        self._set_burst(rest, steady_cpu_milli)
        self._run(rest, now)

    def _set_burst(self, span: Span, steady_cpu_milli: int | None) -> None:
        if steady_cpu_milli is not None:
            span.set_burst(self.prices.find_burst_with(span, steady_cpu_milli))

    # --- what runs ---------------------------------------------------------------------------------------------------

    def usage(self, namespace: str | None = None) -> Usage:
        """Of a namespace; None for all."""
        return self._all if namespace is None else self._usage.get(namespace, _NOTHING)

    def running(self) -> Iterator[Span]:
        return iter(list(self._running.values()))

    def resting(self) -> Iterator[Span]:
        """Of stopped instances, whose disks are paid for."""
        return self._resting.going()

    def kept(self) -> Iterator[Span]:
        """Of the stores of prepared images."""
        return self._keeping.going()

    def _going(self) -> Iterator[Span]:
        """All that is paid for now."""
        yield from (*self._running.values(), *self._resting.going(), *self._keeping.going())

    def namespaces(self) -> list[str]:
        """That something is paid for; "" for what is nobody's."""
        return list(self._usage)

    def find(self, instance_id: str) -> Span | None:
        """The newest span in which an instance runs or ran."""
        return self._running.get(instance_id) or self._over.get(instance_id)

    def rates(self) -> dict[tuple[str, str], float]:
        """(namespace, capacity type) -> USD an hour."""
        found: dict[tuple[str, str], int] = {}
        for span in self._going():
            found[span.counter_key] = found.get(span.counter_key, 0) + span.rate_nanos
        return {key: nanos / NANOS for key, nanos in found.items()}

    def counted(self) -> Mapping[tuple[str, str], Counted]:
        """(namespace, capacity type) -> what was counted since the start of the process."""
        found = {key: Counted(each.usd, each.seconds) for key, each in self._counted.items()}
        now = self.clock()
        for span in self._going():
            count(found, span, 1, now)
        return found

    # --- spans -------------------------------------------------------------------------------------------------------

    def _see_anew(self, instance: Instance, now: float) -> None:
        """It does not run, as far as is known."""
        known = self._over.get(instance.instance_id)
        told_at = self._told.get(instance.instance_id)
        if is_costing(instance):
            if known is not None and told_at is not None and instance.launch_time <= known.until:
                if now - told_at > DOUBT_S:
                    self._resume(known, now)
            elif known is None:
                began = instance.launch_time if 0.0 < instance.launch_time <= now else now
                self._run(self._span(instance, began, SpanState.RUNNING), now)
            elif known.state in (SpanState.UNSURE, SpanState.MISSING):
                self._resume(known, now)
            elif known.state is SpanState.STOPPED:
                began = instance.launch_time if known.until < instance.launch_time <= now else now
                again = known.continue_for(known.owner, began)
                again.launched, again.priced_until = instance.launch_time, 0.0
                again.least_until = self.prices.find_least_until(instance.launch_time or began)
                self._run(again, now)
            return
        is_told = 0.0 < instance.ended_at <= now
        state = SpanState.STOPPED if _may_run_again(instance) else SpanState.ENDED
        if known is None:
            if is_told and 0.0 < instance.launch_time <= instance.ended_at:
                span = self._span(instance, instance.launch_time, state)
                span.until, span.is_late = instance.ended_at, True
                span.counted_from = span.paid_until
                self._finish(span, now)
        elif known.state in (SpanState.UNSURE, SpanState.MISSING):
            self._discount(known)
            known.until = max(known.since, instance.ended_at) if is_told else known.until
            known.state, known.is_estimated = state, not is_told
            self._finish(known, now)
        elif is_told and known.since <= instance.ended_at < known.until:
            self._discount(known)  # the answer to its termination came late, or the notice
            known.until, known.is_estimated = instance.ended_at, False
            self._finish(known, now)

    def _span(self, instance: Instance, since: float, state: SpanState) -> Span:
        return Span(
            instance.instance_id,
            since,
            since,
            state,
            instance.tags.get(TAG_NODE, ""),
            instance.instance_type,
            instance.zone,
            instance.capacity_type,
            self.prices.find(instance),
            owner_of_tags(instance),
            launched=instance.launch_time,
            disk_nanos=self.prices.find_disks(instance),
            burst_nanos=self.prices.find_burst(instance),
            least_until=self.prices.find_least_until(instance.launch_time or since),
        )

    def _run(self, span: Span, now: float) -> None:
        span.state, span.is_estimated, span.seen_at = SpanState.RUNNING, False, now
        self._running[span.instance_id] = span
        self._over.pop(span.instance_id, None)
        self._told.pop(span.instance_id, None)
        self._resting.runs(span.instance_id, span.since, now)
        self._use(span, 1)
        self._note(span)
        self.repricing.watch(span)

    def _resume(self, span: Span, now: float) -> None:
        """It has run all the time."""
        self._discount(span)
        self._run(span, now)

    def _end(self, span: Span, at: float, state: SpanState, *, is_estimated: bool = False) -> None:
        now = self.clock()
        del self._running[span.instance_id]
        self._use(span, -1)
        span.until = max(span.since, min(at, now))
        span.state, span.is_estimated = state, is_estimated
        self._finish(span, now)
        self.on_less()

    def _finish(self, span: Span, now: float) -> None:
        count(self._counted, span, 1, now)
        span.seen_at = now
        self._over[span.instance_id] = span
        self._note(span)
        self.repricing.watch(span)
        if span.state is SpanState.STOPPED:
            self._resting.see(span, span.until, now)

    def _is_running(self, span: Span) -> bool:
        return self._running.get(span.instance_id) is span

    def _put(self, span: Span, rest: Span) -> None:
        """The rest of a span takes its place."""
        for known in (self._running, self._over):
            if known.get(span.instance_id) is span:
                known[span.instance_id] = rest

    def _count(self, span: Span) -> None:
        """It is over."""
        count(self._counted, span, 1, self.clock())

    def _discount(self, span: Span) -> None:
        """Its end was another one."""
        count(self._counted, span, -1, self.clock())

    def _use(self, span: Span, sign: int) -> None:
        usage = self._usage.setdefault(span.owner.namespace, Usage())
        for each in (usage, self._all):
            each.nanos += sign * span.rate_nanos
            each.instances += 0 if span.is_stopped else sign
        if not usage.instances and not usage.nanos:
            del self._usage[span.owner.namespace]

    def _note(self, span: Span) -> None:
        self.changed[span.key] = span

    def _forget_old(self, now: float, listed: Collection[str]) -> None:
        """What the cloud lists is remembered: it would begin anew."""
        excess = len(self._over) - MAX_REMEMBERED
        for instance_id, span in list(self._over.items()):  # the oldest ends first
            if span.state is SpanState.UNSURE:
                if now - self._restored_at > ABSENT_S:
                    span.state, span.is_estimated = SpanState.MISSING, True
                    count(self._counted, span, 1, now)  # what is left of a least time
                    self._note(span)
            elif instance_id not in listed and (excess > 0 or now - span.seen_at > REMEMBERED_S):
                del self._over[instance_id]
                self._told.pop(instance_id, None)
                excess -= 1


_NOTHING = Usage()


def _may_run_again(instance: Instance) -> bool:
    return instance.state in (InstanceState.STOPPING, InstanceState.STOPPED)
