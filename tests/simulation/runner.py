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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import orjson

from tests.simulation import process
from tests.simulation.clock import START, real_cpu, seed_secrets
from tests.simulation.faults import FAULTS
from tests.simulation.plan import draw_plan
from tests.simulation.world import World

DEFAULT_SEEDS = 200
CPU_LIMIT_S = 30
"""Of one seed; the longest take two. A machine that is busy with something else is no fault."""
HUNG = "the simulation of this seed does not end"


@dataclass(frozen=True, slots=True)
class Result:
    """violations: (invariant, detail). digest: of everything that was seen outside of the provider."""

    seed: int
    violations: tuple[tuple[str, str], ...]
    digest: str = ""
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    steps: int = 0
    starts: int = 0


def run_seed(seed: int, fault: str = "", trace: bool = False) -> Result:
    """In this process, which is used up by it."""
    gc.disable()  # what a killed process leaves must not be collected
    began = real_cpu()
    seed_secrets(seed)
    directory = tempfile.mkdtemp(prefix="vk-simulation-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        process.install()
        if fault:
            FAULTS[fault].put_back()
        world = World(draw_plan(seed), directory, keep_trace=trace)
        violations = world.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if trace and world.trace.lines is not None:
        print("\n".join([*world.plan.lines(), *world.trace.lines]))
    found = tuple((violation.invariant, violation.detail) for violation in violations)
    virtual_s = world.loop.time() - START
    return Result(seed, found, world.trace.digest, real_cpu() - began, virtual_s, world.loop.steps, world._processes)


def run_forked(seeds: Sequence[int], jobs: int, fault: str = "", stop_at_first: bool = False) -> Iterator[Result]:
    """One process for each seed, `jobs` at a time; results as they come."""
    gc.collect()
    gc.freeze()
    waiting = list(reversed(seeds))
    running: dict[int, tuple[int, int, bytes]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            seed = waiting.pop()
            reader, pid = _fork(seed, fault)
            running[reader] = seed, pid, b""
        ready, _, _ = select.select(list(running), [], [])
        for reader in ready:
            seed, pid, data = running[reader]
            chunk = os.read(reader, 1 << 16)
            if chunk:
                running[reader] = seed, pid, data + chunk
                continue
            os.close(reader)
            os.waitpid(pid, 0)
            del running[reader]
            result = _parse(seed, data)
            if stop_at_first and result.violations:
                waiting.clear()
            yield result


def _fork(seed: int, fault: str) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    os.close(reader)
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        data = orjson.dumps(asdict(run_seed(seed, fault)))
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _parse(seed: int, data: bytes) -> Result:
    if not data:
        return Result(seed, ((HUNG, f"it has used {CPU_LIMIT_S} s of CPU"),))
    document = orjson.loads(data)
    document["violations"] = tuple(tuple(each) for each in document["violations"])
    return Result(**document)


def command_for(seed: int, fault: str = "") -> str:
    return f"make simulate SEED={seed}" + (f" FAULT={fault}" if fault else "")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="how many")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fault", default="", choices=["", *FAULTS], help="a known fault that is put back")
    parser.add_argument("--until-found", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--trace", action="store_true", help="with --seed: the plan and all that happened")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each seed")
    given = parser.parse_args(arguments)
    results: Iterable[Result]
    if given.seed is not None:
        results = [run_seed(given.seed, given.fault, given.trace)]
    else:
        seeds = range(given.first, given.first + given.seeds)
        results = run_forked(seeds, given.jobs, given.fault, given.until_found)
    count, failed, cpu_s = 0, 0, 0.0
    for result in results:
        count, failed, cpu_s = count + 1, failed + bool(result.violations), cpu_s + result.cpu_s
        if given.json:
            print(orjson.dumps(asdict(result)).decode(), flush=True)
        elif result.violations or given.seed is not None:
            print("\n".join(_lines(result, given.fault)), flush=True)
    if not given.json:
        print(f"{count} seeds, {failed} failed, {cpu_s:.1f} s of CPU")
    return 1 if failed else 0


def _lines(result: Result, fault: str) -> Iterator[str]:
    yield f"seed {result.seed}: {result.virtual_s:.0f} s, {result.steps} steps, {result.cpu_s:.2f} s of CPU"
    for invariant, detail in result.violations:
        yield f"  {invariant}: {detail}"
    if result.violations:
        yield f"  replay it: {command_for(result.seed, fault)}"
