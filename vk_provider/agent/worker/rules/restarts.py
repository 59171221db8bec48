"""Containers between their stop and their next start: what the status shows of them, and which dead ones are kept.

A kubelet stops and starts a container in one pass (SyncPod in pkg/kubelet/kuberuntime/kuberuntime_manager.go, v1.37)
and computes statuses only between passes, so it never tells of the state between. Here statuses are computed at any
time. That state must not get out: the API does not take back an end that the restart policy calls final, OnFailure's
exit code 0 and every end under Never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, State
from vk_provider.agent.worker.rules.spec import ContainerKind
from vk_provider.jsontypes import Json


class Restarts:
    """What the pass under way starts again: container name -> ID of the container before, which it may have to stop.

    `ended` grows with every restart that is over: an observation that was begun before is too old to be shown.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, str] = {}
        self.ended = 0

    @property
    def under_way(self) -> Mapping[str, str]:
        return dict(self._under_way)

    def begin(self, records: Iterable[ObservedContainer]) -> None:
        for record in records:
            self._under_way[record.name] = record.id

    def end(self, name: str) -> None:
        """The container was started, or could not be."""
        if self._under_way.pop(name, None) is not None:
            self.ended += 1

    def end_all(self) -> None:
        """The pass is over."""
        self.ended += len(self._under_way)
        self._under_way.clear()


def held_status(name: str, observed: Observation, old: Json | None, under_way: Mapping[str, str]) -> Json | None:
    """The ContainerStatus that stays as it was, since the container is between its stop and its next start; None when
    the observation is what has to be shown. old: the last one computed."""
    before = under_way.get(name)
    if before is None or old is None:
        return None
    newest = next((record for record in observed.history(name) if record.state is not State.CREATED), None)
    if newest is not None and (newest.id != before or newest.state is State.RUNNING):
        return None
    return dict(old)


def find_surplus(history: Sequence[ObservedContainer], kind: ContainerKind) -> list[ObservedContainer]:
    """Containers of one name that can be removed before the next start. history: newest first.

    The newest one that ended stays, whatever came after it: `logs --previous` reads it, and the back-off counts from
    its end. Source: pruneInitContainersBeforeStart; a kubelet's garbage collection keeps one dead container of a name
    (MaxPerPodContainer). Of a regular or ephemeral container that is not running the one before stays, too: until the
    next start it is the lastState.
    """
    dead = [record for record in history if record.state is not State.RUNNING]
    newest_exited = next((record for record in dead if record.state is State.EXITED), None)
    keep = 1 if kind == "init" or len(dead) < len(history) else 2
    return [r for r in dead[keep:] if r is not newest_exited and r.state in (State.EXITED, State.CREATED)]
