"""Runs seeds in forked processes: each begins as all others do, and nothing of it is left."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import select
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import orjson

from tests.simulation import process
from tests.simulation.clock import START, real_cpu, seed_secrets
from tests.simulation.crashes import SCENARIOS
from tests.simulation.crashes import main as crash_at_every_step
from tests.simulation.faults import FAULTS
from tests.simulation.plan import Plan, draw_crash_plan, draw_plan
from tests.simulation.world import World

DEFAULT_SEEDS = 200
CPU_LIMIT_S = 30
"""Of one seed; the longest take two. A machine that is busy with something else is no fault."""
NEVER = 1 << 40
HUNG = "the simulation of this seed has ended without a result"


@dataclass(frozen=True, slots=True)
class Result:
    """violations: (invariant, detail). digest: of everything that was seen outside of the provider. first_life: steps
    of the first provider process."""

    seed: int
    killed_at: int
    violations: tuple[tuple[str, str], ...]
    digest: str = ""
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    steps: int = 0
    starts: int = 0
    first_life: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """killed_at: the provider is killed after so many steps and nothing else goes wrong; 0: the seed's own faults."""

    seed: int
    killed_at: int = 0
    fault: str = ""

    @property
    def command(self) -> str:
        more = f" KILLED_AT={self.killed_at}" if self.killed_at else ""
        return f"make simulate SEED={self.seed}{more}" + (f" FAULT={self.fault}" if self.fault else "")

    def plan(self) -> Plan:
        return draw_crash_plan(self.seed, self.killed_at) if self.killed_at else draw_plan(self.seed)


def run_here(run: Run, trace: bool = False) -> Result:
    """In this process, which is used up by it."""
    seed, fault = run.seed, run.fault
    gc.disable()  # what a killed process leaves must not be collected
    began = real_cpu()
    seed_secrets(seed)
    directory = tempfile.mkdtemp(prefix="vk-simulation-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        process.install()
        if fault:
            FAULTS[fault].put_back()
        world = World(run.plan(), directory, keep_trace=trace)
        violations = world.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if trace and world.trace.lines is not None:
        print("\n".join([*world.plan.lines(), *world.trace.lines]))
    found = tuple((violation.invariant, violation.detail) for violation in violations)
    return Result(
        seed=seed,
        killed_at=run.killed_at,
        violations=found,
        digest=world.trace.digest,
        cpu_s=real_cpu() - began,
        virtual_s=world.loop.time() - START,
        steps=world.loop.steps,
        starts=world.starts,
        first_life=world.first_life,
    )


def run_forked(runs: Sequence[Run], jobs: int, stop_at_first: bool = False) -> Iterator[Result]:
    """One process for each, `jobs` at a time; results as they come."""
    gc.collect()
    gc.freeze()
    waiting = list(reversed(runs))
    running: dict[int, tuple[Run, int, bytes]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            run = waiting.pop()
            reader, pid = _fork(run)
            running[reader] = run, pid, b""
        ready, _, _ = select.select(list(running), [], [])
        for reader in ready:
            run, pid, data = running[reader]
            chunk = os.read(reader, 1 << 16)
            if chunk:
                running[reader] = run, pid, data + chunk
                continue
            os.close(reader)
            os.waitpid(pid, 0)
            del running[reader]
            result = _parse(run, data)
            if stop_at_first and result.violations:
                waiting.clear()
            yield result


def _fork(run: Run) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    os.close(reader)
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        data = orjson.dumps(asdict(run_here(run)))
        while data:
            data = data[os.write(writer, data) :]
    except BaseException:  # the parent has only the end of the pipe
        traceback.print_exc()
    finally:
        os._exit(0)


def _parse(run: Run, data: bytes) -> Result:
    if not data:
        return Result(run.seed, run.killed_at, ((HUNG, f"see above, or it has used {CPU_LIMIT_S} s of CPU"),))
    document = orjson.loads(data)
    document["violations"] = tuple(tuple(each) for each in document["violations"])
    return Result(**document)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="how many")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--killed-at", type=int, default=0, help="with --seed: the step, and no other faults")
    parser.add_argument("--every", type=int, default=0, help="with --seed: killed at every so many steps, one run each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fault", default="", choices=["", *FAULTS], help="a known fault that is put back")
    parser.add_argument("--until-found", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--trace", action="store_true", help="with --seed: the plan and all that happened")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each seed")
    parser.add_argument("--crashes", default="", choices=["", "all", *SCENARIOS], help="killed at every step of it")
    given = parser.parse_args(arguments)
    if given.crashes:
        return crash_at_every_step(given)
    results: Iterable[Result]
    if given.seed is not None and not given.every:
        results = [run_here(Run(given.seed, given.killed_at, given.fault), given.trace)]
    else:
        results = run_forked(_runs(given), given.jobs, given.until_found)
    count, failed, cpu_s = 0, 0, 0.0
    for result in results:
        count, failed, cpu_s = count + 1, failed + bool(result.violations), cpu_s + result.cpu_s
        if given.json:
            print(orjson.dumps(asdict(result)).decode(), flush=True)
        elif result.violations or (given.seed is not None and not given.every):
            print("\n".join(_lines(result, given.fault)), flush=True)
    if not given.json:
        print(f"{count} seeds, {failed} failed, {cpu_s:.1f} s of CPU")
    return 1 if failed else 0


def _runs(given: argparse.Namespace) -> list[Run]:
    if given.seed is None:
        return [Run(seed, 0, given.fault) for seed in range(given.first, given.first + given.seeds)]
    whole = next(run_forked([Run(given.seed, NEVER)], 1))
    return [Run(given.seed, step, given.fault) for step in range(1, whole.first_life, given.every)]


def _lines(result: Result, fault: str) -> Iterator[str]:
    killed = f" killed at {result.killed_at}" if result.killed_at else ""
    yield f"seed {result.seed}{killed}: {result.virtual_s:.0f} s, {result.steps} steps, {result.cpu_s:.2f} s of CPU"
    for invariant, detail in result.violations:
        yield f"  {invariant}: {detail}"
    if result.violations:
        yield f"  replay it: {Run(result.seed, result.killed_at, fault).command}"
