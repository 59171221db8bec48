"""Runs one case on one node: creates it, acts on it, deletes it, and keeps its history."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable, Sequence

from tests.cluster.controlplane import ControlPlane
from tests.differential.actions import CHANGES, Actor
from tests.differential.api import Answer, Api
from tests.differential.case import Action, Case
from tests.differential.history import History
from vk_provider.jsontypes import Json

START_LIMIT_S = 30.0
"""A pod whose containers do not start is counted from this long after its creation, from the next if it says why."""
TROUBLE_LIMIT_S = 4.0
GONE_LIMIT_S = 60.0
"""After a deletion, beyond its grace."""
FORCE_LIMIT_S = 15.0
NOTHING_ASKED_S = 30
LOOK_S = 1.0
AFTER_GONE_S = 1.5
"""Events of a pod's end may come after its object is gone."""
MERGE = "application/merge-patch+json"
HOSTNAME = "kubernetes.io/hostname"


def prepare_pod(case: Case, node: str) -> Json:
    """The pod of a case for one node: chosen by the scheduler through a label, as people do it, or bound to it."""
    pod = copy.deepcopy(case.pod)
    spec = pod["spec"]
    if spec.pop("nodeName", None) is not None or case.bound:
        spec["nodeName"] = node
    spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), HOSTNAME: node}
    if not case.bound:
        spec.setdefault("tolerations", []).append({"operator": "Exists"})
    pod["metadata"].pop("namespace", None)
    return pod


def lanes(actions: Sequence[Action]) -> list[list[tuple[int, Action]]]:
    """The actions with their numbers: what is asked of the pod, and what changes objects of the API. Each in its order
    and neither waits for the other: a command that hangs on one node would else put off there what the pod reacts to.
    """
    numbered = list(enumerate(actions))
    return [[item for item in numbered if (item[1].verb in CHANGES) is changes] for changes in (False, True)]


class Twin:
    """One of the two pods of a case."""

    def __init__(self, api: Api, plane: ControlPlane, case: Case, history: History) -> None:
        self._api = api
        self._plane = plane
        self._case = case
        self.history = history
        self._name = str(case.pod["metadata"]["name"])
        self._actor = Actor(api, plane, history.namespace, self._name)
        self._grace = int(case.pod["spec"].get("terminationGracePeriodSeconds") or NOTHING_ASKED_S)

    async def prepare(self) -> None:
        """Create what the pod refers to."""
        for manifest in self._case.objects:
            if manifest.get("apiVersion") == "v1" and "namespace" not in manifest.get("metadata", {}):
                path = self._actor.path(manifest["kind"], "-").rpartition("/")[0]
                await self._api.call("POST", path, manifest)
            else:
                text = json.dumps(manifest)
                words = ("apply", "-n", self.history.namespace, "-f", "-")
                await self._plane.kubectl_async(*words, stdin=text, check=False)

    async def run(self) -> None:
        """From creation to the end."""
        answer = await self._create()
        if not answer.ok:
            self.history.answers["create"] = {"status": answer.status, "message": answer.message}
            return
        self.history.created = answer.json
        origin = await self._await_start()
        await asyncio.gather(*(self._act_in_turn(lane, origin) for lane in lanes(self._case.actions)))
        await asyncio.sleep(max(0.0, origin + self._case.window - time.monotonic()))
        self.history.snaps["end"] = time.monotonic()
        await self._end()

    async def _create(self) -> Answer:
        path = f"/api/v1/namespaces/{self.history.namespace}/pods"
        return await self._api.call("POST", path, prepare_pod(self._case, self.history.node))

    async def _await_start(self) -> float:
        begun = time.monotonic()

        def is_over() -> bool:
            waited = time.monotonic() - begun
            return self.history.started is not None or (waited > TROUBLE_LIMIT_S and self.history.is_troubled())

        await self._await(is_over, START_LIMIT_S)
        return self.history.started or time.monotonic()

    async def _await(self, is_over: Callable[[], bool], limit_s: float) -> bool:
        """Look with every change, and now and then; whether it came within the limit."""
        deadline = time.monotonic() + limit_s
        while not is_over() and (left := deadline - time.monotonic()) > 0:
            self.history.changed.clear()
            try:
                async with asyncio.timeout(min(left, LOOK_S)):
                    await self.history.changed.wait()
            except TimeoutError:
                continue
        return is_over()

    async def _act_in_turn(self, lane: list[tuple[int, Action]], origin: float) -> None:
        for number, action in lane:
            await asyncio.sleep(max(0.0, origin + action.at - time.monotonic()))
            await self._act(number, action)

    async def _act(self, number: int, action: Action) -> None:
        key = f"{number} {action.verb}"
        if action.verb == "snap":
            self.history.snaps[f"snap at {action.at:g} s"] = time.monotonic()
        elif self._actor.knows(action.verb):
            self.history.asked[key] = time.monotonic()
            answer = await self._actor.perform(action)
            self.history.answers[key] = answer
            if action.verb == "delete" and action.arguments.get("grace") == 0 and answer.get("status") == 200:
                self.history.forced = self.history.asked[key]
        else:
            self.history.answers[key] = {"error": f"no such verb {action.verb}"}

    async def _end(self) -> None:
        """Delete the pod and wait until it is gone; what does not go is forced away."""
        if self.history.gone is None:
            await self._api.call("DELETE", self._actor.path())
            if not await self._await(lambda: self.history.gone is not None, self._grace + GONE_LIMIT_S):
                self.history.answers["end"] = {"error": "the deleted pod does not go"}
        await asyncio.sleep(AFTER_GONE_S)
        self.history.closed = time.monotonic()


async def clear(api: Api, namespace: str) -> None:
    """Take everything of a case out of its namespace, which is used again; also what finalizers hold."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    deadline = time.monotonic() + FORCE_LIMIT_S
    while (found := (await api.call("GET", pods)).json.get("items", [])) and time.monotonic() < deadline:
        for pod in found:
            path = f"{pods}/{pod['metadata']['name']}"
            if pod["metadata"].get("finalizers"):
                await api.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
            await api.call("DELETE", path, {"gracePeriodSeconds": 0})
        await asyncio.sleep(0.3)
    for plural in ("configmaps", "secrets"):
        base = f"/api/v1/namespaces/{namespace}/{plural}"
        for item in (await api.call("GET", base)).json.get("items", ()):
            if item["metadata"]["name"] != "kube-root-ca.crt":
                await api.call("DELETE", f"{base}/{item['metadata']['name']}")
