"""`make demo-hpa`: an autoscaler follows the load from 1 pod to 5 and back, and instances and their price follow it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.demo import cluster
from tests.demo.environment import PROJECT, Environment
from tests.demo.load import Load
from tests.demo.picture import Sample, draw
from tests.demo.terminal import heading, step
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local.catalog import build_offerings
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore

NAME, PORT, PATH, MOST = "busy", 8080, "/cgi-bin/work", 5
CPUS = 0.7
"""What the load costs: with a target of half of 200m for each pod, more than five pods of it."""
LOOK_S = 2.0
LIMIT_S = 300.0
HOLD_S = 30.0
"""How long the load goes on once there are five."""


class Autoscaling:
    """Deploys, loads, watches and draws, and takes away what it has deployed."""

    def __init__(self, environment: Environment, plane: ControlPlane) -> None:
        if environment.cloud != "local":
            raise ClusterError("the simulated cloud runs no containers, so nothing uses CPU there", "make demo")
        self._plane = plane
        self._manifest = environment.root / "autoscaled.yaml"
        text = (PROJECT / "manifests" / "demo" / "autoscaled.yaml").read_text()
        self._manifest.write_text(text.replace("REGISTRY", environment.registry))
        config = LocalCloudConfig(
            name=environment.name, subnet=environment.subnet, state_dir=str(environment.cloud_state)
        )
        self._store = InstanceStore(config)
        self._prices = {(o.instance_type, o.zone, o.capacity_type): o.price_per_hour for o in build_offerings("")}
        self._addresses: list[str] = []
        self._load = Load(lambda: self._addresses, PORT, PATH)
        self._counted = (time.monotonic(), 0)
        self._samples: list[Sample] = []
        self._lines = 0

    def run(self) -> None:
        """Raises ClusterError when the pods do not follow the load."""
        heading(f"A Deployment of 1, and an autoscaler that may make it {MOST}")
        try:
            with step("Deployment available"):
                self._plane.kubectl("apply", "-f", str(self._manifest))
                self._plane.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=120s", timeout_s=130)
            with step("metrics of its pod"):
                self._wait(self._has_metrics, "metrics-server does not tell its CPU")
            self._look(time.monotonic())
            seconds = self._load.measure()
            self._follow(CPUS / seconds)
        finally:
            self._load.stop()
            self._plane.kubectl("delete", "-f", str(self._manifest), "--ignore-not-found", "--wait=false", check=False)

    def _follow(self, rate: float) -> None:
        heading(
            f"Clients that want {rate:.0f} answers a second, which cost {CPUS:.1f} CPUs; a pod may use a quarter of one"
        )
        started = time.monotonic()
        self._watch(started, lambda: len(self._samples) * LOOK_S >= 10, "")
        self._load.start(rate)
        self._watch(started, lambda: self._samples[-1].replicas == MOST, f"there are not {MOST} pods")
        hold_until = time.monotonic() + HOLD_S
        self._watch(started, lambda: time.monotonic() > hold_until, "")
        self._load.stop()
        self._watch(
            started,
            lambda: self._samples[-1].replicas == self._samples[-1].instances == 1,
            "not all of the pods and instances are gone again",
        )
        self._draw(last=True)
        peak = max(self._samples, key=lambda each: each.dollars)
        print(
            f"\n{self._load.answered} answers, {self._load.failed} requests failed{self._problems()}.\n"
            f"From ${self._samples[0].dollars:.4f} to ${peak.dollars:.4f} an hour with {peak.instances} instances, and "
            f"back to ${self._samples[-1].dollars:.4f}: {self._cost():.6f} USD in all.",
            flush=True,
        )

    def _cost(self) -> float:
        """USD: the price at each look, until the next one."""
        pairs = zip(self._samples, self._samples[1:], strict=False)
        return sum(first.dollars * (second.at_s - first.at_s) / 3600 for first, second in pairs)

    def _watch(self, started: float, done: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while True:
            self._look(started)
            self._draw()
            if done():
                return
            if time.monotonic() > deadline:
                self._draw(last=True)
                about = self._plane.kubectl("describe", f"hpa/{NAME}", check=False).stdout
                raise ClusterError(f"after {LIMIT_S:.0f} s {problem}:\n{about}", "read what the autoscaler says above")
            time.sleep(LOOK_S)

    def _look(self, started: float) -> None:
        pods = json.loads(self._plane.kubectl("get", "pods", "-l", f"app={NAME}", "-o", "json").stdout)["items"]
        ready = [pod for pod in pods if _is_ready(pod)]
        self._addresses = [pod["status"]["podIP"] for pod in ready]
        instances = self._paid_for()
        dollars = sum(self._prices[(each.instance_type, each.zone, each.capacity_type)] for each in instances)
        at_s = time.monotonic() - started
        self._samples.append(Sample(max(at_s, 0.0), self._answers_a_second(), len(ready), len(instances), dollars))

    def _answers_a_second(self) -> float:
        """Since the look before."""
        before, self._counted = self._counted, (time.monotonic(), self._load.answered)
        return (self._counted[1] - before[1]) / max(self._counted[0] - before[0], 1e-3)

    def _problems(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in self._load.problems.items())
        return f" ({found})" if found else ""

    def _paid_for(self) -> list[InstanceRecord]:
        """The pods' instances, from what the cloud has on disk: a listing by LocalCloud would tidy up, too."""
        records = [record for each in self._store.ids() if (record := self._store.load(each)) is not None]
        gone = (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
        return [record for record in records if record.tags.get("pod/app") == NAME and record.state not in gone]

    def _draw(self, last: bool = False) -> None:
        """On a terminal the picture is drawn over the last one; elsewhere it comes at the end, after a line a look."""
        now = self._samples[-1]
        if sys.stdout.isatty():
            text = draw(self._samples)
            if self._lines:
                print(f"\033[{self._lines}A\033[J", end="")
            print(text, flush=True)
            self._lines = text.count("\n") + 1
        elif last:
            print(draw(self._samples), flush=True)
        else:
            print(
                f"{now.at_s:5.0f} s  {now.load:3.0f} answers a second  {now.replicas} pods  {now.instances} instances"
                f"  ${now.dollars:.4f} an hour",
                flush=True,
            )

    def _has_metrics(self) -> bool:
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3D{NAME}"
        return self._plane.rest.answers(path) and bool(self._plane.rest.get(path)["items"])

    def _wait(self, holds: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + 90
        while not holds():
            if time.monotonic() > deadline:
                raise ClusterError(problem, "read the log of metrics-server in the cluster's state")
            time.sleep(1)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(
        item["type"] == "Ready" and item["status"] == "True" for item in conditions
    )


def run(environment: Environment) -> None:
    """metrics-server first, if it does not run yet."""
    cluster.metrics_server(environment)
    Autoscaling(environment, cluster.control_plane(environment)).run()
