"""What was seen of one pod: its versions and events by watch, the answers to actions. Pure but for the clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from vk_provider.jsontypes import Json

STARTING = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Version:
    """The pod from `at` on (monotonic seconds)."""

    at: float
    pod: Json


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event in its last state; `first` is when it was first seen (monotonic seconds)."""

    first: float
    last: float
    event: Json


@dataclass(slots=True)
class History:
    """One twin. Times are monotonic; `started` is what actions count from, `snaps` are moments to compare at,
    `asked` is when an action of `answers` was begun, `forced` when the pod was last deleted without grace."""

    namespace: str
    node: str
    versions: list[Version] = field(default_factory=list)
    events: dict[str, SeenEvent] = field(default_factory=dict)
    answers: dict[str, Json] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    snaps: dict[str, float] = field(default_factory=dict)
    created: Json = field(default_factory=dict)
    started: float | None = None
    deleted: float | None = None
    gone: float | None = None
    forced: float | None = None
    closed: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uid(self) -> str:
        """Of the pod, "" when it was refused."""
        return str(self.created.get("metadata", {}).get("uid", ""))

    @property
    def latest(self) -> Json:
        """The newest version, {} when there was none."""
        return self.versions[-1].pod if self.versions else {}

    def on_pod(self, kind: str, pod: Json) -> None:
        """Take an event of the watch for pods."""
        uid = pod["metadata"].get("uid")
        if self.closed is not None or not self._is_ours(kind, uid):
            return
        now = time.monotonic()
        self.versions.append(Version(now, pod))
        if self.started is None and has_begun(pod):
            self.started = now
        if self.deleted is None and pod["metadata"].get("deletionTimestamp"):
            self.deleted = now
        if kind == "DELETED":
            self.deleted = self.deleted or now
            self.gone = now
        self.changed.set()

    def _is_ours(self, kind: str, uid: str) -> bool:
        """Not the last words about the pod that had the name before."""
        return uid == self.versions[0].pod["metadata"].get("uid") if self.versions else kind == "ADDED"

    def on_event(self, event: Json) -> None:
        """Take an event of the watch for events; updates carry the whole count."""
        if event["involvedObject"].get("kind") != "Pod":
            return
        now = time.monotonic()
        name = event["metadata"]["name"]
        known = self.events.get(name)
        self.events[name] = SeenEvent(known.first if known else now, now, event)

    def is_troubled(self) -> bool:
        """Whether the pod says why no container of it starts."""
        status = self.latest.get("status", {})
        containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        reasons = {item.get("state", {}).get("waiting", {}).get("reason") for item in containers}
        unscheduled = any(
            (item["type"], item["status"]) == ("PodScheduled", "False") for item in status.get("conditions", ())
        )
        warned = any(seen.event.get("type") == "Warning" for seen in self.events.values())
        terminal = status.get("phase") in ("Failed", "Succeeded")
        return terminal or unscheduled or warned or bool(reasons - {None, *STARTING})

    def between(self, begin: float, end: float) -> list[Json]:
        """Every version that held at some time between `begin` and `end`."""
        held = [version.pod for version in self.versions if begin < version.at <= end]
        before = [version.pod for version in self.versions if version.at <= begin]
        return [*before[-1:], *held]


def until(side: History, moment: float, *, with_stops: bool = False) -> History:
    """The history up to a moment, as if the pod had been deleted by then and nothing had been heard of it since.
    with_stops: but for the stops of its containers, which follow from a deletion"""
    return replace(
        side,
        versions=[item for item in side.versions if item.at <= moment],
        events={
            name: seen
            for name, seen in side.events.items()
            if seen.first <= moment
            or (with_stops and str(seen.event.get("message", "")).startswith("Stopping container "))
        },
        answers={key: answer for key, answer in side.answers.items() if side.asked.get(key, moment) < moment},
        snaps={name: at for name, at in side.snaps.items() if at <= moment},
        deleted=moment if side.deleted is None else min(moment, side.deleted),
        gone=None,
        closed=moment,
    )


def has_begun(pod: Json) -> bool:
    """Whether a container of the pod has run."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return any(
        "running" in item.get("state", {}) or "terminated" in item.get("state", {}) or item.get("restartCount")
        for item in containers
    )
