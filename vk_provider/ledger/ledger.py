"""The ledger of a running provider: a meter in memory, a store on disk, and one thread that talks to it.

A store that cannot be opened or written is named once in the log and all along in a metric. The meter counts on, what
could not be written is kept and written later, and without any file the answers are those of this process alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

from vk_provider.cloud.base import Instance
from vk_provider.cloud.imagestores import KeptStore
from vk_provider.errors import CloudError
from vk_provider.ledger.curve import apply_prices
from vk_provider.ledger.history import History, ask_history
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.metrics import LedgerMetrics
from vk_provider.ledger.prices import PriceOf
from vk_provider.ledger.question import CostQuestion, CostReport, answer
from vk_provider.ledger.span import NANOS, PLAIN_TERMS, RunTerms, Span
from vk_provider.ledger.spot import SpotPricing
from vk_provider.ledger.store import LedgerStore, LedgerStoreError

log = logging.getLogger(__name__)

IN_MEMORY = ":memory:"
MEMORY_BYTES = 64 * 2**20
PRUNE_S = 3600.0
MAX_UNWRITTEN = 200_000
"""Spans that wait for a store that cannot be written; the oldest are given up then."""
CLOSE_LIMIT_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LedgerRules:
    """file: "" for none. owner: cloud.owner. keep_s, max_bytes: what is kept. flush_s: between two writes."""

    file: str
    owner: str
    keep_s: float
    max_bytes: int
    flush_s: float


class Ledger:
    """`load`, then `run` until `close`. problem: why nothing is written, "" while all is well."""

    def __init__(
        self, meter: Meter, rules: LedgerRules, metrics: LedgerMetrics, spot: SpotPricing | None = None
    ) -> None:
        """spot: None where prices do not change while instances run."""
        self.meter, self._rules, self.spot = meter, rules, spot
        self.problem = ""
        self._store = LedgerStore(rules.file or IN_MEMORY, rules.owner)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._flushing = asyncio.Lock()
        self._pruned_at = float("-inf")
        self._bytes = 0
        self._is_open = False
        metrics.follow(meter, lambda: bool(self.problem), lambda: self._bytes)

    async def load(self) -> None:
        """Take over what an earlier process has left. Whatever is wrong with it, the provider starts."""
        self._is_open = True
        try:
            said = await self._call(self._store.open)
            if said:
                log.error("the ledger: %s", said)
            self.meter.restore(await self._call(self._store.load))
            if self._store.damaged:
                log.error("the ledger %s: %d spans are damaged and left out", self._rules.file, self._store.damaged)
        except LedgerStoreError as error:
            self._note(str(error))
            self._store.close()
            self._store = LedgerStore(IN_MEMORY, self._rules.owner)
            self._rules = replace(self._rules, file="")
            await self._call(self._store.open)

    async def run(self) -> None:
        """Root task."""
        while True:
            await asyncio.sleep(self._rules.flush_s)
            await self.flush()

    async def flush(self) -> bool:
        """Write what has changed. Returns whether that went well."""
        async with self._flushing:
            meter = self.meter
            now, changed = meter.clock(), meter.changed
            meter.changed = {}
            snapshot, unpriced_until = [span.copy() for span in changed.values()], meter.repricing.find_unpriced_end()
            done = False
            try:
                await self._call(self._store.write, snapshot, now, unpriced_until)
                await self._prune(now)
                done = True
            except LedgerStoreError as error:
                self._note(str(error))
            finally:
                if not done:
                    self._put_back(changed)
            if done and self._rules.file:
                self._note("")
            return done

    def _put_back(self, changed: Mapping[tuple[str, float], Span]) -> None:
        self.meter.changed = {**changed, **self.meter.changed}
        excess = len(self.meter.changed) - MAX_UNWRITTEN
        if excess > 0:
            log.error("the ledger gives up %d spans that could not be written", excess)
            for key in list(self.meter.changed)[:excess]:
                del self.meter.changed[key]

    async def _prune(self, now: float) -> None:
        if now - self._pruned_at < PRUNE_S:
            return
        self._pruned_at = now
        limit = self._rules.max_bytes if self._rules.file else min(MEMORY_BYTES, self._rules.max_bytes)
        await self._call(self._store.prune, now - self._rules.keep_s, limit)
        self._bytes = await self._call(lambda: self._store.used_bytes)

    def _note(self, problem: str) -> None:
        if problem and not self.problem:
            log.error("%s; costs are counted on in memory", problem)
        elif self.problem and not problem:
            log.info("the ledger is written again")
        self.problem = problem

    # --- questions ---------------------------------------------------------------------------------------------------

    async def cost(self, question: CostQuestion) -> CostReport:
        """Up to this moment. Raises LedgerStoreError."""
        await self.flush()
        report = await self._call(answer, self._store, question)
        if self.problem:
            report["notes"].append(self.problem)
        return report

    async def cost_from_tags(
        self, instances: Iterable[Instance], price_of: PriceOf, question: CostQuestion
    ) -> CostReport:
        """By what the cloud says alone, as far back as it lists what has ended."""
        listed, now, price, problem = list(instances), self.meter.clock(), _leave_prices, ""
        if self.spot is not None:
            try:
                curves, period_s = await self.spot.fetch(listed), self.spot.period_s
                price = partial(apply_prices, curves=curves, settled=now, period_s=period_s)
            except CloudError as error:
                problem = f"spot instances are counted at their last known prices alone: {error}"
        disk_price_of, terms = self.meter.prices.disk_price_of, self.meter.prices.terms
        kept = [
            KeptStore(each.instance_id, each.owner.pod, each.since, each.rate_nanos / NANOS)
            for each in self.meter.kept()
        ]
        report = await self._call(answer_from_tags, listed, price_of, question, now, price, disk_price_of, terms, kept)
        report["notes"] += [problem] if problem else []
        return report

    async def history(self, since: float, until: float, steps: int) -> History:
        """Raises LedgerStoreError."""
        await self.flush()
        return await self._call(ask_history, self._store, since, until, steps)

    async def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*arguments, **named))

    async def close(self) -> None:
        """The last flush. Nothing is counted after it."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self.flush()
                await self._call(self._store.close)
        except (TimeoutError, LedgerStoreError) as error:
            log.warning("the ledger is not closed well: %s", error)
        self._thread.shutdown(wait=False)


def _leave_prices(meter: Meter) -> None:
    """Where they do not change."""


def answer_from_tags(
    instances: Iterable[Instance],
    price_of: PriceOf,
    question: CostQuestion,
    now: float,
    price: Callable[[Meter], None] = _leave_prices,
    disk_price_of: PriceOf = lambda instance: 0.0,
    terms: RunTerms = PLAIN_TERMS,
    kept: Iterable[KeptStore] = (),
) -> CostReport:
    """price: splits what the meter has by prices over time."""
    meter = Meter(price_of, lambda: now, disk_price_of, terms)
    for instance in instances:
        meter.see(instance)
    meter.keep(kept)
    meter.repricing.follows_spot = True
    for span in meter.changed.values():
        span.is_late = False  # nobody knows better
        if not span.is_stopped:
            meter.repricing.watch(span)
    price(meter)
    store = LedgerStore(IN_MEMORY, "")
    store.open()
    try:
        store.write(meter.changed.values(), now)
        return answer(store, question, "tags")
    finally:
        store.close()
