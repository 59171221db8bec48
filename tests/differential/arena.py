"""Where pairs are played: namespaces that are used again and again, two watches for all of them."""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass, field, replace
from types import TracebackType

from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.differential.api import Api
from tests.differential.case import Case, localise
from tests.differential.compare import compare
from tests.differential.difference import Difference
from tests.differential.history import History
from tests.differential.pulse import Pulse
from tests.differential.taints import add_taint, remove_taint
from tests.differential.twin import Twin, clear
from vk_provider.jsontypes import Json

ACCOUNT_LIMIT_S = 30.0
PAIR_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Pair:
    """What came out of a case.

    refused: the API server took neither pod, with these words
    late_s:  how long processes of this machine had to wait for a CPU meanwhile
    """

    case: Case
    differences: list[Difference] = field(default_factory=list)
    refused: str = ""
    seconds: float = 0.0
    histories: tuple[History, ...] = ()
    late_s: float = 0.0

    @property
    def kinds(self) -> set[str]:
        """Of its differences."""
        return {difference.kind for difference in self.differences}


class Arena:
    """Plays `slots` pairs at a time on two Nodes, the first ours. Use it as an asynchronous context manager.

    Meanwhile the Nodes have a taint that all pods of cases tolerate but those that are bound (Case.bound).
    With one Node there is nothing to compare with but a recording, see `play_here`.
    """

    def __init__(self, plane: ControlPlane, nodes: tuple[str, ...], registry: str, slots: int) -> None:
        self._plane = plane
        self._nodes = nodes
        self._registry = registry
        self._slots = slots
        self._free: asyncio.Queue[int] = asyncio.Queue()
        self._histories: dict[str, History] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._pulse = Pulse()
        self._api = Api(plane)

    async def __aenter__(self) -> Arena:
        await self._api.__aenter__()
        for path, take in (("/api/v1/pods", self._take_pod), ("/api/v1/events", self._take_event)):
            opened = asyncio.Event()
            self._watches.append(asyncio.create_task(self._api.watch(path, take, opened), name=f"watch {path}"))
            await opened.wait()
        self._watches.append(asyncio.create_task(self._pulse.run(), name="pulse"))
        await asyncio.gather(*(add_taint(self._api, node) for node in self._nodes))
        await asyncio.gather(*(self._make_slot(number) for number in range(self._slots)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(remove_taint(self._api, node) for node in self._nodes))
        await self._api.__aexit__()

    async def _make_slot(self, number: int) -> None:
        for namespace in _namespaces(number):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            await self._api.call("POST", "/api/v1/namespaces", body)
            deadline = time.monotonic() + ACCOUNT_LIMIT_S
            while not await self._has_account(namespace):
                if time.monotonic() > deadline:
                    raise ClusterError(f"namespace {namespace} gets no service account", "look at the control plane")
                await asyncio.sleep(0.1)
            await clear(self._api, namespace)  # of a run that was interrupted
        self._free.put_nowait(number)

    async def _has_account(self, namespace: str) -> bool:
        base = f"/api/v1/namespaces/{namespace}"
        paths = (f"{base}/serviceaccounts/default", f"{base}/configmaps/kube-root-ca.crt")
        return all([(await self._api.call("GET", path)).ok for path in paths])

    def _take_pod(self, kind: str, pod: Json) -> None:
        if history := self._histories.get(pod["metadata"]["namespace"]):
            history.on_pod(kind, pod)

    def _take_event(self, kind: str, event: Json) -> None:
        history = self._histories.get(event["metadata"].get("namespace", ""))
        if history and kind != "DELETED":
            history.on_event(event)

    async def play(self, case: Case) -> Pair:
        """Run the case on both nodes and compare. Waits for a free slot."""
        number = await self._free.get()
        await self._pulse.await_quiet()
        begun = time.monotonic()
        pair = await self._play_within(number, case)
        return replace(pair, late_s=self._pulse.worst_since(begun))

    async def _play_within(self, number: int, case: Case) -> Pair:
        """Whatever happens there is a pair, and the slot is free again."""
        try:
            async with asyncio.timeout(PAIR_LIMIT_S):
                return await self._play(number, case)
        except TimeoutError:
            lost = Difference("the pair does not end", f"after {PAIR_LIMIT_S:.0f} s", "")
            return Pair(case, [lost], seconds=PAIR_LIMIT_S)
        except Exception as error:  # one pair that the tester cannot play ends no run of 500
            traceback.print_exc()
            return Pair(case, [Difference(f"the tester fails: {type(error).__name__}", str(error), "")])
        finally:
            self._free.put_nowait(number)

    async def _play(self, number: int, case: Case) -> Pair:
        started = time.monotonic()
        ours, theirs = await self._run_twins(number, case)
        seconds = time.monotonic() - started
        refusals = [str(side.answers.get("create", {}).get("message", "")) for side in (ours, theirs)]
        if all(refusals):
            return Pair(case, refused=refusals[0], seconds=seconds)
        return Pair(case, compare(ours, theirs), seconds=seconds, histories=(ours, theirs))

    async def play_here(self, case: Case) -> History:
        """Run the case on our Node alone."""
        number = await self._free.get()
        try:
            async with asyncio.timeout(PAIR_LIMIT_S):
                return (await self._run_twins(number, case))[0]
        finally:
            self._free.put_nowait(number)

    async def _run_twins(self, number: int, case: Case) -> list[History]:
        """The closed history of each Node."""
        local = localise(case, self._registry)
        names = _namespaces(number)[: len(self._nodes)]
        histories = [History(name, node) for name, node in zip(names, self._nodes, strict=True)]
        twins = [Twin(self._api, self._plane, local, history) for history in histories]
        self._histories.update({history.namespace: history for history in histories})
        try:
            await asyncio.gather(*(twin.prepare() for twin in twins))
            await asyncio.gather(*(twin.run() for twin in twins))
        finally:
            for history in histories:
                self._histories.pop(history.namespace, None)
            await asyncio.gather(*(clear(self._api, history.namespace) for history in histories))
        return histories


def _namespaces(number: int) -> tuple[str, str]:
    """Of the same length: texts that are cut are cut at the same place."""
    return f"diff-v-{number:02d}", f"diff-k-{number:02d}"
