"""A crash at every step of a launch, of an end, of what pools do, of what the cloud or somebody else does to instances,
and of how images are prepared: no sample, and nothing else goes wrong.

The scenario runs once. Before each step of the provider within its window the process forks: in the child the provider
is killed there, another one is started, and two sweeps later no instance may run that no pod owns; the parent goes on.
Steps between which nothing happened outside of the provider leave the same world, so one of them is enough.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from tests.simulation import process
from tests.simulation.clock import real_cpu, seed_secrets
from tests.simulation.faults import FAULTS
from tests.simulation.invariants import OUTLIVED
from tests.simulation.plan import Plan, Step
from tests.simulation.process import ProviderProcess, build_settings
from tests.simulation.world import World
from vk_provider.cloud.aws.stores import stores
from vk_provider.instances.interruptions import LEAD_S, NOTICE_S
from vk_provider.instances.sweep import OrphanSweep
from vk_provider.preparing import leftover
from vk_provider.settings import ImageSettings, PoolSettings, Settings

SWEEP_S, MIN_AGE_S = 20.0, 30.0
"""An instance counts for a sweep once it is older; listings of the simulation lag by 15 s at most."""
SWEEPS, AFTER_SWEEP_S = 2, 10.0
SWEEP_TAKES_S = 5.0
LIMIT_S = 900.0
CPU_LIMIT_S = 30
NO_RESULT = "the simulation has ended without a result"
POOL = PoolSettings("pool-0", cpu="250m", memory="256Mi", count=1, max=1, price_factor=20.0)
STOPPED_POOL = replace(POOL, state="stopped")
NAMED = ImageSettings(prepare=True, named=("registry.example/app:1",))
NO_STORES = ImageSettings(prepare=False, max_age_s=1.0)
TAKEN_BACK_S = 50.0 + NOTICE_S + 60.0
"""When an instance that was announced at 50 s has ended, unless it was ended before."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """steps: of the plan. window: seconds between which the provider is killed. length_s: until nothing more happens to
    the world, 0.0 for the end of the window. images: settings of the first provider; afterwards: of the next one."""

    steps: tuple[Step, ...]
    window: tuple[float, float]
    pools: tuple[PoolSettings, ...] = ()
    length_s: float = 0.0
    images: ImageSettings = ImageSettings()
    afterwards: ImageSettings = ImageSettings()

    def plan(self, seed: int) -> Plan:
        return Plan(seed, self.length_s or self.window[1], self.steps, self.pools)


def _create(at_s: float, *numbers: int, template: str = "server") -> tuple[Step, ...]:
    return tuple(Step(at_s, "create", {"template": template, "number": number}) for number in numbers)


def _delete(at_s: float, name: str) -> tuple[Step, ...]:
    return (Step(at_s, "delete", {"pick": name, "grace_s": 1}),)


def _to_first(at_s: float, kind: str, **args: float) -> Step:
    """What happens to the instance that was launched first."""
    return Step(at_s, kind, {"pick": 0.0, **args})


SCENARIOS = {
    "launch": Scenario(_create(20.0, 1), (20.0, 50.0)),
    "group": Scenario(_create(20.0, 1, 4), (20.0, 50.0)),
    "end": Scenario(_create(20.0, 1) + _delete(50.0, "server-1"), (50.0, 75.0)),
    "finish": Scenario(_create(20.0, 1, template="job"), (40.0, 75.0)),
    "pool-fill": Scenario((), (0.5, 30.0), (POOL,)),
    "pool-hit": Scenario(_create(50.0, 1), (50.0, 85.0), (POOL,)),
    "pool-stop": Scenario((), (15.0, 95.0), (STOPPED_POOL,)),
    "pool-start": Scenario(_create(120.0, 1), (120.0, 155.0), (STOPPED_POOL,)),
    "pool-end": Scenario(_create(50.0, 1) + _delete(90.0, "server-1"), (90.0, 115.0), (POOL,)),
    "interruption": Scenario(
        (*_create(20.0, 1), _to_first(50.0, "interrupt", seconds=NOTICE_S)), (50.0, 75.0), length_s=TAKEN_BACK_S
    ),
    "pool-interruption": Scenario(
        (_to_first(50.0, "interrupt", seconds=NOTICE_S),), (50.0, 85.0), (POOL,), TAKEN_BACK_S
    ),
    "retirement": Scenario((*_create(20.0, 1), _to_first(50.0, "retire", seconds=LEAD_S + 15)), (50.0, 95.0)),
    "outside-stop": Scenario((*_create(20.0, 1), _to_first(50.0, "halt")), (50.0, 105.0)),
    "protected": Scenario(
        (
            *_create(20.0, 1),
            _to_first(45.0, "protect"),
            *_delete(50.0, "server-1"),
            Step(80.0, "unprotect"),
        ),
        (50.0, 95.0),
    ),
    "store": Scenario((), (0.5, 32.0), images=NAMED, afterwards=NAMED),
    "store-off": Scenario((), (0.5, 32.0), images=NAMED, afterwards=NO_STORES),
}


@dataclass(frozen=True, slots=True)
class Crash:
    """One child. killed_at: step of the first provider; 0: nobody was killed."""

    scenario: str
    seed: int
    killed_at: int
    violations: tuple[tuple[str, str], ...]
    starts: int = 0
    cpu_s: float = 0.0

    @property
    def command(self) -> str:
        return f"python -m tests.simulation --crashes {self.scenario} --first {self.seed} --killed-at {self.killed_at}"


class CrashWorld(World):
    """The world of one scenario. killed_at: 0 forks at each step of the window; other numbers kill at that step."""

    def __init__(self, name: str, seed: int, directory: str, killed_at: int, trace: bool) -> None:
        self.scenario, self.killed_at = SCENARIOS[name], killed_at
        super().__init__(self.scenario.plan(seed), directory, keep_trace=trace)
        self._settings = _hurry(self._settings)
        self._jobs = os.cpu_count() or 1
        self.points: list[int] = []
        self.is_child = False
        self._seen, self._children = -1, 0
        self._swept: list[tuple[ProviderProcess, float]] = []
        self._changed_at = 0.0
        _watch_sweeps(self._on_sweep)
        stores.SWEEP_S = leftover.LOOK_S = SWEEP_S

    # --- killing -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        images = self.scenario.afterwards if self.starts else self.scenario.images
        self._settings = replace(self._settings, images=images)
        super()._start()
        if self._process is not None and self._process.number == 1:
            self._process.on_step = self._on_step

    def _on_step(self, provider: ProviderProcess) -> None:
        if self.killed_at:
            if provider.steps == self.killed_at:
                provider.kill()
            return
        since, until = self.scenario.window
        age_s = self.loop.time() - provider.started_at
        if self.is_child or not since <= age_s < until or self._seen == self.loop.effects:
            return
        self._seen = self.loop.effects
        self.points.append(provider.steps)
        if self._children >= self._jobs:
            os.wait()
            self._children -= 1
        copied, is_copied = os.pipe()
        if os.fork():
            self._children += 1
            os.close(is_copied)
            os.read(copied, 1)  # the end: what it copies changes no more before
            os.close(copied)
            return
        os.close(copied)
        self._become_child(provider, is_copied)

    def _become_child(self, provider: ProviderProcess, is_copied: int) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        asyncio._set_running_loop(self.loop)  # which remembers the process that it runs in
        self.is_child, self.killed_at = True, provider.steps
        parents, self._directory = self._directory, tempfile.mkdtemp(prefix="vk-crash-", dir=_memory())
        shutil.copytree(parents, self._directory, dirs_exist_ok=True)
        os.close(is_copied)
        self._settings = _hurry(build_settings(self._directory, self.scenario.pools))
        provider.kill()

    def join(self) -> None:
        """The parent: until all children have ended."""
        for _ in range(self._children):
            os.wait()
        self._children = 0

    @property
    def directory(self) -> str:
        return self._directory

    def _do(self, step: Step) -> None:
        super()._do(step)
        self._changed_at = self.loop.time()

    # --- two sweeps --------------------------------------------------------------------------------------------------

    def _on_sweep(self) -> None:
        process = self._process
        if process is not None and process.is_running:
            self._swept.append((process, self.loop.time()))

    def _count_sweeps(self) -> int:
        """Of the provider that runs now, since the youngest instance was old enough for them, and the last step of the
        plan was done."""
        youngest = max((each.launch_time for each in self.cloud.live()), default=0.0)
        wall_s = time.time() - self.loop.time()
        return sum(
            process is self._process
            and process.is_running
            and wall_s + at - youngest >= MIN_AGE_S + SWEEP_TAKES_S
            and at >= self._changed_at + SWEEP_TAKES_S
            for process, at in self._swept
        )

    async def _settle(self) -> None:
        """The verdict is once, after the second sweep: what does not hold by then is a fault."""
        deadline = self.loop.time() + LIMIT_S
        while self._count_sweeps() < SWEEPS and not self.judge.violations:  # noqa: ASYNC110 - nothing announces a sweep
            if self.loop.time() >= deadline:
                break
            await asyncio.sleep(1.0)  # of virtual time
        await asyncio.sleep(AFTER_SWEEP_S)
        if self._count_sweeps() < SWEEPS and not self.judge.violations:
            self.judge.fail(OUTLIVED, f"no two sweeps within {LIMIT_S:.0f} s")
        self.judge.check()
        if not self.judge.violations:
            self.judge.violations += self.rest.judge_pods_and_instances()
            self.judge.violations += self.cloud.stores.judge(1 if self._settings.images.prepare else 0)
        await super()._settle()  # what else is to hold in the end


def _hurry(settings: Settings) -> Settings:
    return replace(settings, cloud=replace(settings.cloud, orphan_sweep_s=SWEEP_S, orphan_min_age_s=MIN_AGE_S))


def _memory() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _watch_sweeps(on_sweep: Callable[[], None]) -> None:
    original = OrphanSweep.sweep

    async def sweep(self: OrphanSweep) -> list[str]:
        ended = await original(self)
        on_sweep()
        return ended

    OrphanSweep.sweep = sweep


def run_scenario(name: str, seed: int, killed_at: int = 0, fault: str = "", trace: bool = False) -> list[Crash]:
    """In this process, which is used up by it: the run without a crash first, then all others by step."""
    gc.disable()  # what a killed process leaves must not be collected
    began = real_cpu()
    seed_secrets(seed)
    directory = tempfile.mkdtemp(prefix="vk-crash-", dir=_memory())
    with tempfile.NamedTemporaryFile(dir=directory) as results:
        process.install()
        if fault:
            FAULTS[fault].put_back()
        world = CrashWorld(name, seed, directory, killed_at, trace)
        try:
            violations = world.run()
            found = tuple((violation.invariant, violation.detail) for violation in violations)
        except BaseException:
            traceback.print_exc()
            found = ((NO_RESULT, "see above"),)
        crash = Crash(name, seed, world.killed_at, found, world.starts, real_cpu() - (0.0 if world.is_child else began))
        if world.is_child:
            shutil.rmtree(world.directory, ignore_errors=True)
            os.write(results.fileno(), orjson.dumps(asdict(crash)) + b"\n")
            os._exit(0)
        world.join()
        if trace and world.trace.lines is not None:
            print("\n".join([*world.plan.lines(), *world.trace.lines]))
        crashes = {each.killed_at: each for each in map(_parse, Path(results.name).read_bytes().splitlines())}
    shutil.rmtree(directory, ignore_errors=True)
    lost = (Crash(name, seed, step, ((NO_RESULT, "it was ended"),)) for step in world.points if step not in crashes)
    return [crash, *sorted([*crashes.values(), *lost], key=lambda each: each.killed_at)]


def _parse(line: bytes) -> Crash:
    document = orjson.loads(line)
    document["violations"] = tuple(tuple(each) for each in document["violations"])
    return Crash(**document)


def main(given: argparse.Namespace) -> int:
    """One scenario of `--crashes`; all of them each in a process of its own."""
    names: Sequence[str] = list(SCENARIOS) if given.crashes == "all" else [given.crashes]
    failed = 0
    for name in names:
        if len(names) > 1:
            arguments = [*sys.argv[1:], "--crashes", name]
            failed += os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-m", "tests.simulation", *arguments])
            continue
        crashes = run_scenario(name, given.first, given.killed_at, given.fault, given.trace)
        for crash in crashes:
            if given.json:
                print(orjson.dumps(asdict(crash)).decode(), flush=True)
            elif crash.violations:
                print(f"{crash.command}{_text(crash.violations)}", flush=True)
        bad = sum(bool(crash.violations) for crash in crashes)
        if not given.json:
            print(
                f"{name}: {len(crashes) - 1} crashes, {bad} failed, {sum(each.cpu_s for each in crashes):.1f} s of CPU"
            )
        failed += bad
    return 1 if failed else 0


def _text(violations: Sequence[tuple[Any, ...]]) -> str:
    return "".join(f"\n  {invariant}: {detail}" for invariant, detail in violations)
