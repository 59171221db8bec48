"""PeerCoordinator: hears what agents want and have, proves what they may have, and tells them where to fetch it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from vk_provider.agentclient.session import Slot
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.imagesets.need import find_need
from vk_provider.jsontypes import Json
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.peering.swarm import Answer, Blob, Swarm, Told
from vk_provider.podmodel.imagemanifest import MAX_PARTS
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.contents import Allowed, ImageContents
from vk_provider.preparing.credentials import PullSecrets
from vk_provider.wire.blobs import BlobAnswer, BlobsMessage, PeerSource, SourcesMessage, compute_grant
from vk_provider.wire.bootdata import AGENT_PORT

PROOF_LIMIT_S = 6.0
"""Shorter than agents wait for a first answer."""
PROVE_AGAIN_S = 30.0
"""A pod that wants blobs of no image of its own is proved again after this: a tag may have moved."""
LOOK_S = 5.0
"""At most between two looks for leases and transfers that take too long."""


class SecretReader(Protocol):
    """Reads a pod's imagePullSecrets, mostly from memory; one that cannot be read now is None."""

    async def read_pull_secrets(self, pod: Json) -> PullSecrets: ...


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """uploads: of one instance at once; min_bytes: smaller blobs are the registry's."""

    uploads: int
    min_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Peer:
    """An instance with its pod. allowed: None until it was proved; told: its agent's newest message; counted: bytes
    that metrics have taken, from peers and from the registry; proved: the object that the proof was of."""

    record: PodRecord
    name: str
    zone: str
    told: BlobsMessage | None = None
    allowed: Allowed | None = None
    references: frozenset[str] = frozenset()
    proved: Json | None = None
    proved_at: float = 0.0
    proof: asyncio.Task[None] | None = None
    counted: tuple[int, int] = (0, 0)
    failed: set[tuple[Blob, str]] = field(default_factory=set)


class PeerCoordinator:
    """pods.peers.PodPeers. `run` is a root task. clock: seconds."""

    def __init__(
        self,
        limits: PeerLimits,
        contents: ImageContents,
        secret_reader: SecretReader,
        metrics: PeerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._swarm, self._min_bytes = Swarm(limits.uploads), limits.min_bytes
        self._contents, self._secrets = contents, secret_reader
        self._metrics, self._clock = metrics, clock
        self._master = secrets.token_bytes(32)
        self._peers: dict[str, _Peer] = {}
        self._tasks = BackgroundTasks()
        self._asked = asyncio.Event()
        metrics.follow(lambda: self._swarm.size)

    # --- sessions ------------------------------------------------------------------------------------------------

    def greet(self, record: PodRecord) -> None:
        """See PodPeers.greet: the agent is told its key, and that it is heard."""
        instance = record.instance
        if instance is None or not instance.primary_ip:
            return
        self._forget(instance.instance_id)
        self._peers[instance.instance_id] = _Peer(record, instance.instance_id, instance.zone)
        self._send(self._peers[instance.instance_id])

    def leave(self, record: PodRecord) -> None:
        """See PodPeers.leave."""
        if record.instance is not None:
            self._forget(record.instance.instance_id)
            self._tell_changed()

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is not None:
            if peer.proof is not None:
                peer.proof.cancel()
            self._swarm.remove(name, self._clock())

    def receive(self, record: PodRecord, message: BlobsMessage) -> None:
        """See PodPeers.receive."""
        instance = record.instance
        peer = self._peers.get(instance.instance_id) if instance is not None else None
        if peer is None or peer.record is not record:
            return
        peer.told = message
        if self._needs_proof(peer, message):
            peer.proof = self._tasks.spawn(self._prove(peer), f"blobs of {record.uid}")
        if peer.allowed is not None:
            self._take(peer, message)

    # --- proofs --------------------------------------------------------------------------------------------------

    def _needs_proof(self, peer: _Peer, message: BlobsMessage) -> bool:
        if peer.proof is not None or not message["wanted"]:
            return False
        if peer.allowed is None:
            return True
        if all(digest in peer.allowed for digest in message["wanted"]):
            return False
        if self._clock() >= peer.proved_at + PROVE_AGAIN_S:
            return True
        pod, before, peer.proved = peer.record.pod, peer.proved, peer.record.pod
        return pod is not before and find_need(pod).references != peer.references  # each object is looked at once

    async def _prove(self, peer: _Peer) -> None:
        pod, found = peer.record.pod, Allowed()
        instance = peer.record.instance
        architecture = instance.architecture if instance is not None else ""
        try:
            with contained(f"the images of pod {peer.record.key}"):
                async with asyncio.timeout(PROOF_LIMIT_S):
                    pull_secrets = await self._secrets.read_pull_secrets(pod)
                    found = await self._contents.find_allowed(pod, pull_secrets, architecture)
        finally:
            peer.proof = None
        known = peer.allowed or {}
        allowed = {digest: item for digest, item in found.items() if item[1] >= self._min_bytes}
        peer.allowed = {**known, **allowed} if len(known) < MAX_PARTS else allowed
        peer.references, peer.proved, peer.proved_at = find_need(pod).references, pod, self._clock()
        self._metrics.proofs.labels("allowed" if found else "denied").inc()
        if peer.told is not None and self._peers.get(peer.name) is peer:
            self._take(peer, peer.told)

    # --- blobs ---------------------------------------------------------------------------------------------------

    def _take(self, peer: _Peer, message: BlobsMessage) -> None:
        """What the agent says counts as far as the pod may have the blobs."""
        allowed = peer.allowed or {}
        self._count(peer, message)

        def blobs(digests: list[str]) -> list[Blob]:
            return [blob for digest in digests if digest in allowed for blob in allowed[digest][0]]

        wanted = {allowed[each][0][0]: allowed[each][1] for each in message["wanted"] if each in allowed}
        failed = [
            (allowed[each["digest"]][0][0], each["instance"]) for each in message["failed"] if each["digest"] in allowed
        ]
        told = Told(wanted, blobs(message["fetching"]), blobs(message["held"]), failed)
        self._metrics.failures.inc(len(set(failed) - peer.failed))
        peer.failed = set(failed)
        self._swarm.update(peer.name, peer.zone, told, self._clock())
        self._asked.set()
        self._tell_changed()
        if any(digest not in allowed for digest in message["wanted"]) and peer.proof is None:
            self._send(peer)

    def _count(self, peer: _Peer, message: BlobsMessage) -> None:
        """No more than the pod's images have."""
        limit = 2 * sum(size for _, size in (peer.allowed or {}).values())
        now = (min(limit, message["peerBytes"]), min(limit, message["registryBytes"]))
        for source, before, after in zip(("peers", "registry"), peer.counted, now, strict=True):
            self._metrics.bytes.labels(source).inc(max(0, after - before))
        peer.counted = (max(peer.counted[0], now[0]), max(peer.counted[1], now[1]))

    def _tell_changed(self) -> None:
        for name in self._swarm.take_changed():
            if (peer := self._peers.get(name)) is not None:
                self._send(peer)

    def _send(self, peer: _Peer) -> None:
        session = peer.record.session
        if session is not None:
            answers = self._answers(peer)
            message = SourcesMessage(type="sources", key=self._key_of(peer.name), answers=answers)
            session.put(Slot.SOURCES, dict(message))

    def _answers(self, peer: _Peer) -> list[BlobAnswer]:
        if peer.told is None:
            return []
        found, answers = self._swarm.answers(peer.name), []
        for digest in peer.told["wanted"]:
            if digest in (peer.allowed or {}):
                blobs, size = (peer.allowed or {})[digest]
                if (answer := found.get(blobs[0])) is not None:
                    answers.append(self._describe(peer, digest, size, answer))
            elif peer.proof is None:
                answers.append(BlobAnswer(digest=digest, kind="registry", size=0))
        return answers

    def _describe(self, peer: _Peer, digest: str, size: int, answer: Answer) -> BlobAnswer:
        described = BlobAnswer(digest=digest, kind=answer.kind, size=size)
        source = self._peers.get(answer.member)
        instance = source.record.instance if source is not None else None
        if answer.kind == "wait" and answer.member:
            described["instance"] = answer.member
        elif answer.kind == "peer" and instance is not None:
            grant = compute_grant(self._key_of(answer.member), peer.name, digest)
            described["source"] = PeerSource(
                instance=answer.member, address=instance.primary_ip, port=AGENT_PORT, grant=grant
            )
        elif answer.kind == "peer":
            described["kind"] = "registry"
        return described

    def _key_of(self, name: str) -> str:
        """For the grants that this instance accepts, until the provider is started again."""
        return hmac.new(self._master, name.encode(), hashlib.sha256).hexdigest()

    # --- time ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Root task: ends leases and transfers that take too long."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while (due := self._swarm.next_due()) is not None:
                await asyncio.sleep(min(LOOK_S, max(0.5, due - self._clock())))
                self._swarm.expire(self._clock())
                self._tell_changed()

    async def close(self) -> None:
        await self._tasks.close()
