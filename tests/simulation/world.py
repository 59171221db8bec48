"""Runs one plan: a provider, killed and started again, and everything around it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from typing import Any

from tests.simulation.agents import Fleet
from tests.simulation.apiserver.network import Network
from tests.simulation.apiserver.server import Admission, ApiServer
from tests.simulation.apiserver.store import Change
from tests.simulation.cloud import CloudServer
from tests.simulation.judge import CHECK_S, UNHANDLED, WAITS_FOR_EVER, Judge, Violation
from tests.simulation.loop import NothingLeftError, Process, SimulationLoop, outside_later
from tests.simulation.plan import Plan, Step
from tests.simulation.process import NODE, Identities, ProviderProcess, Surroundings, build_settings
from tests.simulation.workload import NAMESPACE, REFUSED, behave, build_pod
from vk_provider.cloud.base import Instance
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import RequestInfo
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.rfc3339 import format_time, parse_time
from vk_provider.settings import PoolSettings

QUIET_LIMIT_S = 1800.0
"""After the last fault: longer than what waits for ten sweeps, and a launch call without an answer before it."""
STOP_LIMIT_S = 60.0
RESTART_S = 5.0
LEASE_S = 40.0


class Trace:
    """Everything that anybody outside of the provider sees, in order. `lines` only where somebody wants to read it."""

    def __init__(self, keep: bool) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = [] if keep else None

    def note(self, *words: object) -> None:
        now = asyncio.get_running_loop().time()
        line = f"{now:.6f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class _LogHandler(logging.Handler):
    def __init__(self, judge: Judge, trace: Trace) -> None:
        super().__init__(logging.INFO if trace.lines is not None else logging.WARNING)
        self._judge, self._trace = judge, trace

    def emit(self, record: logging.LogRecord) -> None:
        self._judge.on_log(record)
        if self._trace.lines is not None:
            self._trace.lines.append(
                f"    {time.monotonic():.6f} {record.levelname} {record.name}: {record.getMessage()}"
            )


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
        self.judge = Judge(self.network, self.cloud, self.fleet)
        self.loop = SimulationLoop(self._on_error)
        self._surroundings = Surroundings(self.network, self.cloud, self.fleet, Identities(time.time()))
        self._process: ProviderProcess | None = None
        self.starts = self.first_life = 0
        self._again: dict[str, Json] = {}
        self._is_over = False
        self._down_s = RESTART_S

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> list[Violation]:
        handler = _LogHandler(self.judge, self.trace)
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
        self._prepare()
        self._start()
        for step in self.plan.steps:
            outside_later(step.at_s, self._do, step)
        outside_later(1.0, self._control_nodes)
        await self._watch(self.plan.length_s)
        self._heal()
        await self._settle()
        await self._stop()

    def _connect(self) -> None:
        self.server.observers += [self.judge.on_change, self._on_change]
        self.cloud.on_launch = self._on_launch
        self.cloud.on_gone = self.fleet.end
        self.cloud.on_shutdown = self._on_shutdown
        self.cloud.on_terminate = self._on_terminate
        self.fleet.on_start = self._on_container_start

    def _prepare(self) -> None:
        store = self.server.store
        for name in (NAMESPACE, "kube-node-lease"):
            store.create("namespaces", "", {"metadata": {"name": name}})
        store.create("configmaps", NAMESPACE, {"metadata": {"name": "shared"}, "data": {"key": "0"}})
        self._do_service(0)

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
            unmet = self.judge.unmet()
            quiet = 0 if unmet else quiet + 1
        if quiet < 2:
            self.judge.violations += unmet
        elif not self.judge.violations:
            self.judge.violations += self.judge.judge_bill()
        self.trace.note("quiet")

    async def _stop(self) -> None:
        self._is_over = True
        process = self._process
        if process is None or not process.is_running or self.judge.violations:
            return
        process.terminate()
        deadline = self.loop.time() + STOP_LIMIT_S
        while process.is_running and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        if process.is_running:
            self.judge.fail(WAITS_FOR_EVER, "the provider does not stop")
        await asyncio.sleep(1.0)

    # --- the provider ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._is_over or (self._process is not None and self._process.is_running):
            return
        self.starts += 1
        self._process = self.judge.process = ProviderProcess(
            self.starts, self._settings, self._surroundings, self._on_exit
        )
        self.judge.pools = self._settings.pools
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
        is_counted = phase in TERMINAL_PHASES or metadata.get("deletionTimestamp")
        if change.new is not None and metadata.get("finalizers") and is_counted:
            outside_later(self._rng.uniform(0.1, 5.0), self._release, metadata["name"], metadata["uid"])
        if resource == "pods" and change.new is None and metadata["name"] in self._again:
            outside_later(self._rng.uniform(0.0, 1.0), self._create, self._again.pop(metadata["name"]))

    def _release(self, name: str, uid: str) -> None:
        """The controller of Jobs has counted the pod."""
        pod = self.server.store.find("pods", NAMESPACE, name)
        if pod is not None and pod["metadata"]["uid"] == uid:
            self._patch("pods", pod, {"metadata": {"finalizers": None}})

    def _on_launch(self, instance: Instance) -> None:
        faults = self.cloud.faults
        never = self._rng.random() < faults.failed_boots
        boot_s = 1e9 if never else self._rng.uniform(*faults.boot_s)
        self.trace.note("instance", instance.instance_id, self.cloud.pod_uid(instance), "boots in", round(boot_s, 3))
        self.fleet.boot(instance, boot_s)
        self.judge.on_launch(instance)

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

    def _control_nodes(self) -> None:
        """The controller manager: a Node whose Lease is old is NotReady, and so are its pods."""
        store = self.server.store
        lease, node = store.find("leases", "kube-node-lease", NODE), store.find("nodes", "", NODE)
        if lease is not None and node is not None and not self.network.faults.away:
            age_s = time.time() - parse_time(lease["spec"]["renewTime"])
            if age_s > LEASE_S and _ready(node) == "True":
                self._set_condition("nodes", node, "Unknown", "NodeStatusUnknown")
                for pod in self.judge.pods():
                    self._mark_not_ready(pod)
        outside_later(5.0, self._control_nodes)

    def _mark_not_ready(self, pod: Json) -> None:
        if _ready(pod) == "True":
            self._set_condition("pods", pod, "False", "NodeNotReady")

    def _set_condition(self, resource: str, item: Json, status: str, reason: str) -> None:
        condition = {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": format_time()}
        self._patch(resource, item, {"status": {"conditions": [condition]}}, "status")

    # --- steps of the plan -------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        if self.judge.violations:
            return
        self.trace.note(step.kind, step.args)
        getattr(self, f"_do_{step.kind.replace('-', '_')}")(**step.args)

    def _patch(self, resource: str, item: Json, patch: Json, sub: str = "") -> None:
        metadata = item["metadata"]
        try:
            self.server.store.patch(
                resource,
                metadata.get("namespace", ""),
                metadata["name"],
                patch,
                "application/strategic-merge-patch+json",
                sub,
            )
        except KubeApiError as error:
            self.trace.note("refused", error)

    def _create(self, pod: Json) -> None:
        try:
            self.server.store.create("pods", NAMESPACE, pod)
        except KubeApiError as error:
            self.trace.note("refused", error)

    def _pick_pod(self, pick: float | str, phase: str = "") -> Json | None:
        """pick: a name, or which one of those that are not being deleted."""
        if isinstance(pick, str):
            return self.server.store.find("pods", NAMESPACE, pick)
        pods = [pod for pod in self.judge.pods() if not pod["metadata"].get("deletionTimestamp")]
        pods = [pod for pod in pods if phase in ("", pod["status"]["phase"])]
        return pods[int(pick * len(pods))] if pods else None

    def _pick_instance(self, pick: float) -> str:
        """Its ID; "" when there is none."""
        ids = sorted(each.instance_id for each in self.cloud.costing())
        return ids[int(pick * len(ids))] if ids else ""

    def _do_create(self, template: str, number: int) -> None:
        self._create(build_pod(template, number))

    def _do_delete(self, pick: float | str, grace_s: int | None) -> None:
        pod = self._pick_pod(pick)
        if pod is not None:
            self._delete(pod, grace_s)

    def _delete(self, pod: Json, grace_s: int | None) -> None:
        options = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self.server.store.delete("pods", NAMESPACE, pod["metadata"]["name"], options)

    def _do_delete_all(self, grace_s: int | None) -> None:
        for pod in self.judge.pods():
            self._delete(pod, grace_s)

    def _do_replace(self, pick: float, grace_s: int | None) -> None:
        pod = self._pick_pod(pick)
        if pod is not None:
            template, _, number = pod["metadata"]["name"].rpartition("-")
            self._again[pod["metadata"]["name"]] = build_pod(template, int(number))
            self._delete(pod, grace_s)

    def _do_label(self, pick: float | str, value: int, pending: bool) -> None:
        """pending: a pod that waits, if there is one."""
        pod = self._pick_pod(pick, "Pending" if pending else "") or self._pick_pod(pick)
        if pod is not None:
            self._patch("pods", pod, {"metadata": {"labels": {"changed": str(value)}}})

    def _do_resize(self, pick: float, cpu: str) -> None:
        """A change of the spec, which the agent has to be told. It would make a pod possible that must be refused."""
        pod = self._pick_pod(pick)
        if pod is not None and pod["metadata"]["labels"]["template"] not in REFUSED:
            container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
            self._patch("pods", pod, {"spec": {"containers": [container]}})

    def _do_crash_container(self, pick: float, raced: bool) -> None:
        """raced: just before its status is written, another writer says that the pod is not Ready."""
        pod = self._pick_pod(pick)
        agent = self.judge.agent_of(pod["metadata"]["uid"]) if pod is not None else None
        if agent is not None and pod is not None and pod["spec"]["restartPolicy"] == "Always":
            if raced:
                self.server.admission.append(self._race(pod))
            self.fleet.crash_container(agent.instance.instance_id)

    def _race(self, pod: Json) -> Admission:
        name = pod["metadata"]["name"]

        def race(info: RequestInfo, body: Json) -> None:
            if (info.label, info.verb, info.name) == ("pods/status", "patch", name):
                self.server.admission.remove(race)
                held = self.server.store.find("pods", NAMESPACE, name)
                if held is not None:
                    self._mark_not_ready(held)

        outside_later(10.0, lambda: race in self.server.admission and self.server.admission.remove(race))
        return race

    def _do_not_ready(self, pick: float) -> None:
        pod = self._pick_pod(pick)
        if pod is not None:
            self._mark_not_ready(pod)

    def _do_service(self, value: int) -> None:
        name = f"service-{value}"
        spec = {"clusterIP": f"10.96.0.{10 + value}", "ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}
        if self.server.store.find("services", NAMESPACE, name) is None:
            self.server.store.create("services", NAMESPACE, {"metadata": {"name": name}, "spec": spec})
        else:
            self.server.store.delete("services", NAMESPACE, name)

    def _do_config_map(self, value: int) -> None:
        held = self.server.store.get("configmaps", NAMESPACE, "shared")
        self._patch("configmaps", held, {"data": {"key": str(value)}})

    def _do_node(self, edit: str, value: int) -> None:
        node = self.server.store.find("nodes", "", NODE)
        if node is None:
            return
        match edit:
            case "label":
                self._patch("nodes", node, {"metadata": {"labels": {"example.org/edited": str(value)}}})
            case "cordon":
                self._patch("nodes", node, {"spec": {"unschedulable": bool(value % 2) or None}})
            case "capacity":
                self._patch("nodes", node, {"status": {"capacity": {"example.org/a": str(value)}}}, "status")
            case "delete":
                self.server.store.delete("nodes", "", NODE)

    # --- faults ------------------------------------------------------------------------------------------------------

    def _do_crash(self, steps: int, down_s: float) -> None:
        if self._process is not None and self._process.is_running:
            self._down_s = down_s
            self._process.kill_in(steps)

    def _do_stop(self, down_s: float) -> None:
        if self._process is not None and self._process.is_running:
            self._down_s = down_s
            self._process.terminate()

    def _do_pools(self, pools: tuple[PoolSettings, ...]) -> None:
        """For the next start."""
        self._settings = build_settings(self._directory, pools)

    def _do_api_away(self, seconds: float) -> None:
        self.network.faults.away = True
        self.network.break_watches()
        outside_later(seconds, setattr, self.network.faults, "away", False)

    def _do_api_faults(self, name: str, rate: float, seconds: float) -> None:
        setattr(self.network.faults, name, rate)
        outside_later(seconds, setattr, self.network.faults, name, 0.0)

    def _do_break_watches(self) -> None:
        self.network.break_watches()

    def _do_compact(self, and_break: bool) -> None:
        if and_break:
            self.network.break_watches()
        self.server.compact()

    def _do_stall_watches(self, seconds: float) -> None:
        self.network.stall(True)
        outside_later(seconds, self.network.stall, False)

    def _do_webhook(self, what: str, status: int, seconds: float) -> None:
        label, verb = {
            "status": ("pods/status", "patch"),
            "delete": ("pods", "delete"),
            "events": ("events", "create"),
        }[what]

        def refuse(info: RequestInfo, body: Json) -> KubeApiError | None:
            if (info.label, info.verb) != (label, verb):
                return None
            return KubeApiError(
                status, "Forbidden" if status == 403 else "InternalError", "admission webhook denied it"
            )

        self.server.admission.append(refuse)
        outside_later(seconds, self.server.admission.remove, refuse)

    def _do_hang(self, what: str, seconds: float) -> None:
        def hang(info: RequestInfo) -> bool:
            return info.resource == what

        self.network.faults.hangs.append(hang)
        outside_later(seconds, self.network.faults.hangs.remove, hang)

    def _do_cloud_faults(self, name: str, rate: float, seconds: float) -> None:
        setattr(self.cloud.faults, name, rate)
        outside_later(seconds, setattr, self.cloud.faults, name, 0.0)

    def _do_blind(self, pick: float, seconds: float) -> None:
        instance_id = self._pick_instance(pick)
        self.cloud.faults.blind.add(instance_id)
        outside_later(seconds, self.cloud.faults.blind.discard, instance_id)

    def _do_all_blind(self, seconds: float) -> None:
        self.cloud.faults.all_blind = True
        outside_later(seconds, setattr, self.cloud.faults, "all_blind", False)

    def _do_stale(self, seconds: float) -> None:
        self.cloud.faults.stale = True
        outside_later(seconds, setattr, self.cloud.faults, "stale", False)

    def _do_failed_boots(self, rate: float, seconds: float) -> None:
        self.cloud.faults.failed_boots = rate
        outside_later(seconds, setattr, self.cloud.faults, "failed_boots", 0.0)

    def _do_slow_boots(self, boot_s: float, seconds: float) -> None:
        faults, usual = self.cloud.faults, type(self.cloud.faults)().boot_s
        faults.boot_s = boot_s, boot_s + 5.0
        outside_later(seconds, setattr, faults, "boot_s", usual)

    def _do_no_capacity(self, share: float, seconds: float) -> None:
        offerings = self.cloud.offerings()
        self.cloud.set_capacity(self._rng.sample(offerings, int(share * len(offerings))))
        outside_later(seconds, self.cloud.set_capacity, [])

    def _do_quota(self, more: int, seconds: float) -> None:
        self.cloud.set_quota(more)
        outside_later(seconds, self.cloud.set_quota, None)

    def _do_kill(self, pick: float, sudden: bool) -> None:
        instance_id = self._pick_instance(pick)
        if not instance_id:
            return
        self.judge.note_killed(instance_id)
        if not sudden:
            self.cloud.announce(instance_id)
        if sudden:
            self.fleet.end(instance_id)
        outside_later(
            self._rng.uniform(0.0, 20.0) if sudden else 0.0,
            self.cloud.end,
            instance_id,
            "Server.SpotInstanceTermination",
        )

    def _do_protect(self, pick: float) -> None:
        self.cloud.protected.add(self._pick_instance(pick))

    def _do_cut(self, pick: float, seconds: float) -> None:
        self.fleet.cut(self._pick_instance(pick), seconds)

    def _do_mute(self, pick: float, seconds: float) -> None:
        self.fleet.mute(self._pick_instance(pick), seconds)

    def _do_cut_all(self, seconds: float) -> None:
        for instance in self.cloud.costing():
            self.fleet.cut(instance.instance_id, seconds)

    def _heal(self) -> None:
        """Every window has ended by itself; what was planned for a provider that is down is over, too."""
        self.trace.note("healed")


def _ready(item: Json) -> str:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "")
