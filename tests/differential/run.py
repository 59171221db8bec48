"""One run: the known list is checked, pairs are played, what differs is played again and shrunk, results written."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.conformance.circumstance import read_commit, read_machine
from tests.differential.arena import Pair
from tests.differential.case import Case
from tests.differential.difference import Difference
from tests.differential.known import Known, explain, noteworthy, unexplained
from tests.differential.pulse import LATE_S
from tests.differential.recording import write_recording
from tests.differential.report import Kind, Totals, order, render, table
from tests.differential.shrink import shrink

ATTEMPTS = 4
"""At a pair on a machine that does not keep up."""

Play = Callable[[Case], Awaitable[Pair]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked: the cases, how many at a time, trials of shrinking per kind, where results go,
    and where the kubelet's side is recorded, if anywhere."""

    cases: Sequence[Case]
    seed: str
    slots: int
    directory: Path
    known: tuple[Known, ...]
    page: Path | None = None
    trials: int = 24
    confirm: bool = True
    record: Path | None = None
    registry: str = ""


@dataclass(slots=True)
class Counts:
    """Of pairs. void: given up, as the machine never kept up while they were played; not among `played`."""

    played: int = 0
    void: int = 0
    refused: int = 0
    equal: int = 0
    known: int = 0


@dataclass(slots=True)
class Run:
    """Plays a plan through `play`, which waits for a free slot by itself."""

    plan: Plan
    play: Play
    kinds: dict[str, Kind] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    untrue: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    async def execute(self) -> int:
        """0 when nothing unexplained was found, else 1. Results are written whatever ends it."""
        try:
            await self._check_known()
            await self._play_all()
            if self.plan.trials:
                await self._shrink_all()
        finally:
            self._write()
        confirmed = [kind for kind in self.kinds.values() if kind.confirmed]
        return 1 if confirmed or self.untrue else 0

    async def _check_known(self) -> None:
        """Every entry of the list must still be seen."""

        async def check(entry: Known) -> None:
            pair = await self._play_in_time(entry.case())
            if not any(entry.matches(difference) for difference in pair.differences):
                pair = await self._play_in_time(entry.case())
            if not any(entry.matches(difference) for difference in pair.differences):
                self.untrue.append(entry.name)
                say(f"known, but no longer true: {entry.name}")

        await asyncio.gather(*(check(entry) for entry in self.plan.known))

    async def _play_all(self) -> None:
        waiting = asyncio.Semaphore(self.plan.slots)

        async def one(case: Case) -> None:
            async with waiting:  # so that a pair's second run comes before pairs that have not begun
                await self._judge(case, await self._play_in_time(case))

        async with asyncio.TaskGroup() as group:
            for case in self.plan.cases:
                group.create_task(one(case), name=case.name)

    async def _play_in_time(self, case: Case) -> Pair:
        """The first of several attempts during which the machine kept up, else the last."""
        for _ in range(ATTEMPTS):
            pair = await self.play(case)
            if pair.late_s <= LATE_S:
                break
            say(f"{case.name}: processes had to wait {pair.late_s:.1f} s for a CPU, once more")
        return pair

    async def _judge(self, case: Case, pair: Pair) -> None:
        if pair.late_s > LATE_S:
            self.counts.void += 1
            return
        self.counts.played += 1
        if pair.refused:
            self.counts.refused += 1
            self._progress(case, f"refused: {pair.refused[:90]}")
            return
        if self.plan.record and pair.histories:
            write_recording(self.plan.record, case, pair.histories[1], self.plan.registry)
        shown = noteworthy(pair.differences, self.plan.known)
        left = unexplained(shown, self.plan.known)
        if not left:
            self.counts.equal += not shown
            self.counts.known += bool(shown)
            self._progress(case, _names(shown, self.plan.known) if shown else "equal")
            return
        unconfirmed = [item for item in left if not (item.kind in self.kinds and self.kinds[item.kind].confirmed)]
        again: set[str] = set()
        if unconfirmed and self.plan.confirm:
            again = (await self._play_in_time(case)).kinds
        for item in left:
            kind = self.kinds.setdefault(item.kind, Kind(item, case))
            kind.pairs.append(case.name)
            if item.kind in again and not kind.confirmed:
                kind.confirmed, kind.case, kind.difference = True, case, item
        self._progress(case, f"{len(left)} different: " + "; ".join(item.kind[:70] for item in left[:3]))

    async def _shrink_all(self) -> None:
        """The smallest case of every confirmed kind, several at a time. Kinds that the smallest case of another shows,
        too, come with that one: they are most likely one fault."""
        waiting = asyncio.Semaphore(max(1, self.plan.slots // 2))

        async def one(kind: Kind) -> None:
            async with waiting:
                if kind.lead is not None:
                    return
                seen: dict[str, set[str]] = {}

                async def still(case: Case) -> bool:
                    kinds = (await self.play(case)).kinds
                    text = case.to_yaml()
                    seen[text] = kinds
                    if kind.name in kinds and len(text) < len(kind.case.to_yaml()):
                        kind.case = case  # the smallest so far, for a run that is interrupted
                    return kind.name in kinds

                kind.case, _ = await shrink(kind.case, still, self.plan.trials)
                for other in seen.get(kind.case.to_yaml(), set()):
                    if other != kind.name and other in self.kinds and self.kinds[other].lead is None:
                        self.kinds[other].lead = kind.lead or kind.name
                self._save(kind)
                say(f"smallest case of {kind.name[:90]}: {self._file(kind)}")

        confirmed = [kind for kind in order(list(self.kinds.values())) if kind.confirmed]
        await asyncio.gather(*(one(kind) for kind in confirmed))

    def _file(self, kind: Kind) -> Path:
        return self.plan.directory / f"{kind.slug}.yaml"

    def _save(self, kind: Kind) -> None:
        self.plan.directory.mkdir(parents=True, exist_ok=True)
        said = "".join(f"# {line}\n" for line in str(kind.difference).splitlines())
        self._file(kind).write_text(said + kind.case.to_yaml())

    def _progress(self, case: Case, text: str) -> None:
        width = len(str(len(self.plan.cases)))
        confirmed = sum(kind.confirmed for kind in self.kinds.values())
        parts = " ".join(case.features)
        elapsed = time.monotonic() - self.started
        say(
            f"[{self.counts.played:>{width}}/{len(self.plan.cases)} {elapsed:5.0f} s, {confirmed} kinds] "
            f"{case.name} {parts}: {text}"
        )

    def _write(self) -> None:
        for kind in self.kinds.values():
            self._save(kind)
        totals = Totals(
            seed=self.plan.seed,
            pairs=self.counts.played,
            void=self.counts.void,
            refused=self.counts.refused,
            equal=self.counts.equal,
            known=self.counts.known,
            commit=read_commit(),
            machine=read_machine(),
            date=datetime.now(UTC).date().isoformat(),
            wall_s=time.monotonic() - self.started,
            slots=self.plan.slots,
            untrue=tuple(self.untrue),
        )
        known = [(entry.name, entry.reason) for entry in self.plan.known]
        text = render(totals, list(self.kinds.values()), known)
        page = self.plan.page or self.plan.directory / "results.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
        if self.kinds:
            say("\n" + table(list(self.kinds.values())))
        confirmed = sum(kind.confirmed for kind in self.kinds.values())
        say(f"\n{self.counts.played} pairs, {confirmed} kinds left; {page}; each case in {self.plan.directory}")


def _names(differences: Sequence[Difference], known: Sequence[Known]) -> str:
    found = {entry.name for item in differences if (entry := explain(item, known))}
    return "known: " + ", ".join(sorted(found))


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
