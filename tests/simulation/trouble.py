"""What goes wrong around a provider: at the API server, at the cloud, and on instances."""

from __future__ import annotations

import random
import time

from tests.simulation.agents import Fleet
from tests.simulation.apiserver.network import Network
from tests.simulation.apiserver.server import Admission
from tests.simulation.cloud import CloudServer
from tests.simulation.cluster import Cluster
from tests.simulation.loop import outside_later
from tests.simulation.truth import Truth
from tests.simulation.workload import NAMESPACE
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import RequestInfo


class Trouble:
    """`do_<kind>`: the faults of a plan."""

    def __init__(
        self,
        network: Network,
        cloud: CloudServer,
        fleet: Fleet,
        cluster: Cluster,
        truth: Truth,
        rng: random.Random,
    ) -> None:
        self._network, self._server = network, network.server
        self._cloud, self._fleet, self._cluster = cloud, fleet, cluster
        self._truth, self._rng = truth, rng
        cloud.faults.is_spared = self._is_unnamed

    # --- of the API server -------------------------------------------------------------------------------------------

    def do_api_away(self, seconds: float) -> None:
        self._network.faults.away = True
        self._network.break_watches()
        outside_later(seconds, setattr, self._network.faults, "away", False)

    def do_api_faults(self, name: str, rate: float, seconds: float) -> None:
        setattr(self._network.faults, name, rate)
        outside_later(seconds, setattr, self._network.faults, name, 0.0)

    def do_break_watches(self) -> None:
        self._network.break_watches()

    def do_compact(self, and_break: bool) -> None:
        if and_break:
            self._network.break_watches()
        self._server.compact()

    def do_stall_watches(self, seconds: float) -> None:
        self._network.stall(True)
        outside_later(seconds, self._network.stall, False)

    def do_webhook(self, what: str, status: int, seconds: float) -> None:
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

        self._server.admission.append(refuse)
        outside_later(seconds, self._server.admission.remove, refuse)

    def do_hang(self, what: str, seconds: float) -> None:
        def hang(info: RequestInfo) -> bool:
            return info.resource == what

        self._network.faults.hangs.append(hang)
        outside_later(seconds, self._network.faults.hangs.remove, hang)

    # --- of the cloud -------------------------------------------------------------------------------------------------

    def do_cloud_faults(self, name: str, rate: float, seconds: float) -> None:
        setattr(self._cloud.faults, name, rate)
        outside_later(seconds, setattr, self._cloud.faults, name, 0.0)

    def do_blind(self, pick: float, seconds: float) -> None:
        instance_id = self._pick_instance(pick)
        self._cloud.faults.blind.add(instance_id)
        outside_later(seconds, self._cloud.faults.blind.discard, instance_id)

    def _is_unnamed(self, instance_id: str) -> bool:
        """Whether a cloud whose listings do not lag would hide the only trace of a pod: the instance that was given a
        pod whose status has not named it yet."""
        agent = self._truth.fleet.agents.get(instance_id)
        pod = self._truth.find(agent.core.uid) if agent is not None and agent.core.uid else None
        if self._cloud.listing_lag_s or agent is None or pod is None:
            return False
        return bool((pod.get("status") or {}).get("hostIP") != agent.instance.primary_ip)

    def do_all_blind(self, seconds: float) -> None:
        self._cloud.faults.all_blind = True
        outside_later(seconds, setattr, self._cloud.faults, "all_blind", False)

    def do_stale(self, seconds: float) -> None:
        self._cloud.faults.stale = True
        self._cloud.stale_s = max(self._cloud.stale_s, seconds)
        outside_later(seconds, setattr, self._cloud.faults, "stale", False)

    def do_failed_boots(self, rate: float, seconds: float) -> None:
        self._cloud.faults.failed_boots = rate
        outside_later(seconds, setattr, self._cloud.faults, "failed_boots", 0.0)

    def do_slow_boots(self, boot_s: float, seconds: float) -> None:
        faults, usual = self._cloud.faults, type(self._cloud.faults)().boot_s
        faults.boot_s = boot_s, boot_s + 5.0
        outside_later(seconds, setattr, faults, "boot_s", usual)

    def do_no_capacity(self, share: float, seconds: float) -> None:
        offerings = self._cloud.offerings()
        self._cloud.set_capacity(self._rng.sample(offerings, int(share * len(offerings))))
        outside_later(seconds, self._cloud.set_capacity, [])

    def do_quota(self, more: int, seconds: float) -> None:
        self._cloud.set_quota(more)
        outside_later(seconds, self._cloud.set_quota, None)

    # --- of instances -------------------------------------------------------------------------------------------------

    def _pick_instance(self, pick: float) -> str:
        """Its ID; "" when there is none."""
        ids = sorted(each.instance_id for each in self._cloud.costing())
        return ids[int(pick * len(ids))] if ids else ""

    def do_kill(self, pick: float, sudden: bool) -> None:
        instance_id = self._pick_instance(pick)
        if not instance_id:
            return
        self._truth.note_killed(instance_id)
        if not sudden:
            self._cloud.announce(instance_id)
        if sudden:
            self._fleet.end(instance_id)
        outside_later(
            self._rng.uniform(0.0, 20.0) if sudden else 0.0,
            self._cloud.end,
            instance_id,
            "Server.SpotInstanceTermination",
        )

    def do_interrupt(self, pick: float, seconds: float) -> None:
        """A spot instance: announced, and taken back so much later."""
        self._take_back(self._pick_instance(pick), None, seconds, "Server.SpotInstanceTermination")

    def do_retire(self, pick: float, seconds: float) -> None:
        """Its machine is retired at a time that is announced long before."""
        self._take_back(self._pick_instance(pick), time.time() + seconds, seconds, "Server.ScheduledStop")

    def _take_back(self, instance_id: str, at: float | None, seconds: float, reason: str) -> None:
        self._truth.note_killed(instance_id)
        self._cloud.announce(instance_id, at, surely=True)
        outside_later(seconds, self._cloud.end, instance_id, reason)

    def do_halt(self, pick: float) -> None:
        """Stopped from outside."""
        instance_id = self._pick_instance(pick)
        self._truth.note_killed(instance_id)
        self._cloud.halt(instance_id)

    def do_protect(self, pick: float) -> None:
        self._cloud.protected.add(self._pick_instance(pick))

    def do_unprotect(self) -> None:
        self._cloud.protected.clear()

    def do_cut(self, pick: float, seconds: float) -> None:
        self._fleet.cut(self._pick_instance(pick), seconds)

    def do_mute(self, pick: float, seconds: float) -> None:
        self._fleet.mute(self._pick_instance(pick), seconds)

    def do_cut_all(self, seconds: float) -> None:
        for instance in self._cloud.costing():
            self._fleet.cut(instance.instance_id, seconds)

    def do_crash_container(self, pick: float, raced: bool) -> None:
        """raced: just before its status is written, another writer says that the pod is not Ready."""
        pod = self._cluster.pick_pod(pick)
        agent = self._truth.agent_of(pod["metadata"]["uid"]) if pod is not None else None
        if agent is not None and pod is not None and pod["spec"]["restartPolicy"] == "Always":
            if raced:
                self._server.admission.append(self._race(pod))
            self._fleet.crash_container(agent.instance.instance_id)

    def _race(self, pod: Json) -> Admission:
        name = pod["metadata"]["name"]

        def race(info: RequestInfo, body: Json) -> None:
            if (info.label, info.verb, info.name) == ("pods/status", "patch", name):
                self._server.admission.remove(race)
                held = self._server.store.find("pods", NAMESPACE, name)
                if held is not None:
                    self._cluster.mark_not_ready(held)

        outside_later(10.0, lambda: race in self._server.admission and self._server.admission.remove(race))
        return race
