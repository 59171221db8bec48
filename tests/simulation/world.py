"""Runs one plan: a provider, killed and started again, and everything around it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

from tests.simulation.agents import Fleet
from tests.simulation.apiserver.network import Network
from tests.simulation.apiserver.server import ApiServer
from tests.simulation.apiserver.store import Change
from tests.simulation.cloud import CloudServer
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import UNHANDLED, WAITS_FOR_EVER, Violation
from tests.simulation.judge import CHECK_S, Judge
from tests.simulation.liars import Liars
from tests.simulation.loop import NothingLeftError, Process, SimulationLoop, outside_later
from tests.simulation.plan import Plan, Step
from tests.simulation.process import Identities, ProviderProcess, Surroundings, build_settings
from tests.simulation.rest import RestJudge
from tests.simulation.trace import Trace, TraceHandler
from tests.simulation.trouble import Trouble
from tests.simulation.truth import Truth
from tests.simulation.workload import behave
from vk_provider.cloud.base import Instance
from vk_provider.settings import PoolSettings

QUIET_LIMIT_S = 1800.0
"""After the last fault: longer than what waits for ten sweeps, and a launch call without an answer before it."""
STOP_LIMIT_S = 60.0
RESTART_S = 5.0


class World:
    """`run` returns the violations. All randomness follows from the plan's seed."""

    def __init__(self, plan: Plan, directory: str, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.trace = Trace(keep_trace)
        self._directory = directory
        self._settings = build_settings(directory, plan.pools)
        self._rng = random.Random(f"world of {plan.seed}")
        self.server = ApiServer(random.Random(f"API server of {plan.seed}"))
        self.network = Network(self.server, random.Random(f"network of {plan.seed}"))
        self.cloud = CloudServer(random.Random(f"cloud of {plan.seed}"))
        self.fleet = Fleet(random.Random(f"agents of {plan.seed}"), behave)
        self.truth = Truth(self.network, self.cloud, self.fleet)
        self.judge, self.rest = Judge(self.truth), RestJudge(self.truth)
        self.loop = SimulationLoop(self._on_error)
        self._surroundings = Surroundings(self.network, self.cloud, self.fleet, Identities(time.time()))
        self._process: ProviderProcess | None = None
        self.starts = self.first_life = 0
        self._cluster = Cluster(self.network, self.truth, self.trace, self._rng)
        self._trouble = Trouble(self.network, self.cloud, self.fleet, self._cluster, self.truth, self._rng)
        self._is_over = False
        self._down_s = RESTART_S

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> list[Violation]:
        handler = TraceHandler(self.trace, self.judge.on_log)
        logger = logging.getLogger("vk_provider")
        logger.addHandler(handler)
        logger.setLevel(handler.level)
        logger.propagate = False
        try:
            self.loop.run_until_complete(self._run())
        except NothingLeftError:
            self.judge.fail(WAITS_FOR_EVER, "no timer runs and nothing is ready")
        except Exception as error:  # a fault of the simulation is no success either
            logging.getLogger(__name__).exception("the simulation failed")
            self.judge.fail(UNHANDLED, f"the simulation itself: {error!r}")
        return self.judge.violations

    async def _run(self) -> None:
        self._connect()
        self._cluster.prepare()
        self._start()
        for step in self.plan.steps:
            outside_later(step.at_s, self._do, step)
        outside_later(1.0, self._cluster.control_nodes)
        await self._watch(self.plan.length_s)
        self._heal()
        await self._settle()
        await self._stop()

    def _connect(self) -> None:
        self.server.observers += [self.judge.on_change, self._on_change, self._cluster.on_change]
        self.cloud.on_launch = self._on_launch
        self.cloud.on_gone = self.fleet.end
        self.cloud.on_shutdown = self._on_shutdown
        self.cloud.on_terminate = self._on_terminate
        self.cloud.on_stop = self._on_stop
        self.cloud.on_start = self._on_start
        self.fleet.on_start = self._on_container_start
        self.fleet.on_message = self.judge.on_message
        self.fleet.greet = Liars(self.plan.seed, self.truth.pods).greet

    async def _watch(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until and not self.judge.violations:
            await asyncio.sleep(CHECK_S)
            self.judge.check()

    async def _settle(self) -> None:
        """Until everything holds, twice in a row."""
        deadline, quiet = self.loop.time() + QUIET_LIMIT_S, 0
        unmet: list[Violation] = []
        while quiet < 2 and self.loop.time() < deadline and not self.judge.violations:
            await asyncio.sleep(CHECK_S)
            self.judge.check()
            unmet = self.rest.unmet()
            quiet = 0 if unmet else quiet + 1
        if quiet < 2:
            self.judge.violations += unmet
        elif not self.judge.violations:
            self.judge.violations += self.rest.judge_bill()
        self.trace.note("quiet")

    async def _stop(self) -> None:
        self._is_over = True
        process = self._process
        if process is None or not process.is_running or self.judge.violations:
            return
        process.terminate()
        deadline = self.loop.time() + STOP_LIMIT_S
        while process.is_running and self.loop.time() < deadline:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.5)
        if process.is_running:
            self.judge.fail(WAITS_FOR_EVER, "the provider does not stop")
        await asyncio.sleep(1.0)

    # --- the provider ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._is_over or (self._process is not None and self._process.is_running):
            return
        self.starts += 1
        self._process = self.truth.process = ProviderProcess(
            self.starts, self._settings, self._surroundings, self._on_exit
        )
        self.truth.pools = self._settings.pools
        self.trace.note("provider", self.starts, "starts")
        self._process.start()

    def _on_exit(self, process: ProviderProcess) -> None:
        self.first_life = self.first_life or process.steps
        self.trace.note("provider", process.number, "has ended", "killed" if process.is_dead else process.failure)
        self.judge.on_exit(process)
        down_s, self._down_s = self._down_s, RESTART_S
        outside_later(down_s, self._start)

    def _on_error(self, process: Process | None, context: dict[str, Any]) -> None:
        self.judge.on_error(process, context)

    # --- what the world sees -----------------------------------------------------------------------------------------

    def _on_change(self, resource: str, change: Change) -> None:
        item = change.new or change.old
        assert item is not None
        metadata = item["metadata"]
        phase = (item.get("status") or {}).get("phase", "") if resource == "pods" else ""
        self.trace.note(resource, metadata["name"], change.version, phase, "" if change.new else "is gone")

    def _on_launch(self, instance: Instance) -> None:
        boot_s = self._draw_boot_s()
        self.trace.note("instance", instance.instance_id, self.cloud.pod_uid(instance), "boots in", round(boot_s, 3))
        self.fleet.boot(instance, boot_s)
        self.judge.on_launch(instance)

    def _draw_boot_s(self) -> float:
        faults = self.cloud.faults
        never = self._rng.random() < faults.failed_boots
        return 1e9 if never else self._rng.uniform(*faults.boot_s)

    def _on_stop(self, instance_id: str, ends_in_s: float) -> None:
        """Its agent is lost before the cloud says so."""
        self.trace.note("instance", instance_id, "stops in", round(ends_in_s, 3))
        if instance_id not in self.cloud.halted:
            self.judge.on_stop(instance_id)
        outside_later(self._rng.uniform(0.0, ends_in_s), self.fleet.power_off, instance_id)

    def _on_start(self, instance: Instance) -> None:
        boot_s = self._draw_boot_s()
        self.trace.note("instance", instance.instance_id, "boots again in", round(boot_s, 3))
        self.fleet.boot_again(instance, boot_s)

    def _on_shutdown(self, instance_id: str, ends_in_s: float) -> None:
        """Its agent is lost first, then its containers end, then the cloud says so."""
        self.trace.note("instance", instance_id, "shuts down in", round(ends_in_s, 3))
        containers_s = self._rng.uniform(0.0, ends_in_s)
        outside_later(self._rng.uniform(0.0, containers_s), self.fleet.cut, instance_id, ends_in_s)
        outside_later(containers_s, self.fleet.end, instance_id)

    def _on_terminate(self, instance_id: str) -> None:
        self.trace.note("terminate", instance_id)
        self.judge.on_terminate(instance_id)

    def _on_container_start(self, agent: Any) -> None:
        self.trace.note("containers of", agent.core.uid, "run on", agent.instance.instance_id)
        self.judge.on_start(agent)

    # --- steps of the plan -------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        """Each kind of step is a method of the one that it is done by."""
        if self.judge.violations:
            return
        self.trace.note(step.kind, step.args)
        name = f"do_{step.kind.replace('-', '_')}"
        actor = next(each for each in (self, self._cluster, self._trouble) if hasattr(each, name))
        getattr(actor, name)(**step.args)

    def do_crash(self, steps: int, down_s: float) -> None:
        if self._process is not None and self._process.is_running:
            self._down_s = down_s
            self._process.kill_in(steps)

    def do_stop(self, down_s: float) -> None:
        if self._process is not None and self._process.is_running:
            self._down_s = down_s
            self._process.terminate()

    def do_pools(self, pools: tuple[PoolSettings, ...]) -> None:
        """For the next start."""
        self._settings = build_settings(self._directory, pools)

    def _heal(self) -> None:
        """Every window has ended by itself; what was planned for a provider that is down is over, too."""
        self.trace.note("healed")
