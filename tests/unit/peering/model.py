"""A zone on paper: instances that start at one moment and need one new image, in virtual time.

Rates are constant for the length of a transfer: an instance's network is divided by the uploads (or downloads) that are
allowed at once, whether they take place or not, so the model errs on the slow side. The registry's capacity is divided
by those that fetch when a transfer begins.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from vk_provider.peering.swarm import Answer, Blob, Swarm, Told

DOWNLOADS = 3
"""containerd's max_concurrent_downloads."""


@dataclass(frozen=True, slots=True)
class Network:
    """Bytes a second. registry: of all its connections to the zone together; connection: of one of them; instance: in
    and out; latency_s: of an answer of the provider."""

    registry: float = 1.25e9
    connection: float = 100e6
    instance: float = 625e6
    latency_s: float = 0.02


@dataclass(slots=True)
class Outcome:
    """registry_bytes: that left the registry; done_s: when each instance had all; busiest: uploads of one instance."""

    registry_bytes: int = 0
    peer_bytes: int = 0
    done_s: dict[str, float] = field(default_factory=dict)
    busiest: int = 0


@dataclass(slots=True)
class _Instance:
    name: str
    left: list[Blob]
    wanted: dict[Blob, int] = field(default_factory=dict)
    fetching: set[Blob] = field(default_factory=set)
    held: set[Blob] = field(default_factory=set)
    begun: set[Blob] = field(default_factory=set)


class Model:
    """dying: instances that vanish as soon as they begin to serve."""

    def __init__(self, sizes: Sequence[int], count: int, uploads: int, network: Network, dying: int = 0) -> None:
        self._blobs = {("registry.example/app", f"sha256:{number:064x}"): size for number, size in enumerate(sizes)}
        self._network, self._uploads = network, uploads
        self.swarm = Swarm(uploads)
        self._instances = {f"i-{number}": _Instance(f"i-{number}", list(self._blobs)) for number in range(count)}
        self._queue: list[tuple[float, int, str, Blob | None, str]] = []
        self._sequence = 0
        self._at_registry = 0
        self._serving: dict[str, int] = {}
        self._dying = dying
        self.outcome = Outcome()

    def run(self) -> Outcome:
        for name in self._instances:
            self._at(0.0, name, None, "")
        while self._queue:
            now, _, name, blob, source = heapq.heappop(self._queue)
            if name in self._instances:
                self._step(self._instances[name], blob, source, now)
            self.swarm.expire(now)
            self._look(now)
        return self.outcome

    def _at(self, when: float, name: str, blob: Blob | None, source: str) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, name, blob, source))

    def _step(self, instance: _Instance, blob: Blob | None, source: str, now: float) -> None:
        failed = []
        if blob is not None:
            if source:
                self._serving[source] -= 1
            else:
                self._at_registry -= 1
            instance.begun.discard(blob)
            if source and source not in self._instances:
                failed.append((blob, source))
                instance.wanted.pop(blob, None)
                self._fetch(instance, blob, now)
            else:
                self._complete(instance, blob, source, now)
        while instance.left and len(instance.wanted) + len(instance.fetching) < DOWNLOADS:
            wanted = instance.left.pop(0)
            instance.wanted[wanted] = self._blobs[wanted]
        told = Told(instance.wanted, instance.fetching, instance.held, failed)
        self.swarm.update(instance.name, "a", told, now)

    def _complete(self, instance: _Instance, blob: Blob, source: str, now: float) -> None:
        instance.wanted.pop(blob, None)
        instance.fetching.discard(blob)
        instance.held.add(blob)
        if source:
            self.outcome.peer_bytes += self._blobs[blob]
        if len(instance.held) == len(self._blobs):
            self.outcome.done_s[instance.name] = now

    def _look(self, now: float) -> None:
        for name in sorted(self.swarm.take_changed()):
            instance = self._instances.get(name)
            for blob, answer in self.swarm.answers(name).items():
                if instance is not None and blob in instance.wanted and blob not in instance.begun:
                    self._begin(instance, blob, answer, now)

    def _begin(self, instance: _Instance, blob: Blob, answer: Answer, now: float) -> None:
        if answer.kind == "registry":
            instance.wanted.pop(blob)
            self._fetch(instance, blob, now)
        elif answer.kind == "peer":
            instance.begun.add(blob)
            rate = min(self._network.instance / self._uploads, self._network.instance / DOWNLOADS)
            self._serving[answer.member] = self._serving.get(answer.member, 0) + 1
            self.outcome.busiest = max(self.outcome.busiest, self._serving[answer.member])
            self._at(now + self._network.latency_s + self._blobs[blob] / rate, instance.name, blob, answer.member)
            if self._dying > 0 and answer.member in self._instances:
                self._dying -= 1
                del self._instances[answer.member]
                self.swarm.remove(answer.member, now)

    def _fetch(self, instance: _Instance, blob: Blob, now: float) -> None:
        instance.fetching.add(blob)
        instance.begun.add(blob)
        self._at_registry += 1
        rate = min(self._network.connection, self._network.registry / self._at_registry)
        self.outcome.registry_bytes += self._blobs[blob]
        self._at(now + self._network.latency_s + self._blobs[blob] / rate, instance.name, blob, "")


def time_without_peers(sizes: Sequence[int], count: int, network: Network) -> float:
    """Everybody from the registry, which is the bottleneck, or one instance's connections."""
    return max(sum(sizes) * count / network.registry, sum(sizes) / (DOWNLOADS * network.connection))
