"""What pods ask of `instances`: an instance each, which starts from a prepared store that the pod may have."""

from __future__ import annotations

import asyncio

from vk_provider.aiokit.guard import contained
from vk_provider.instances.demand import Demand
from vk_provider.instances.room import Instances
from vk_provider.pods.facts import NoFacts, PodFacts
from vk_provider.pods.identities import NoIdentities, PodIdentities
from vk_provider.pods.images import PodImages
from vk_provider.pods.peers import NoPeers, PodPeers
from vk_provider.pods.record import PodRecord
from vk_provider.sizing.requirement import Given


class PodDemands:
    """room: where instances come from; images: says which store an instance may start from; facts: what is known of a
    pod beside its object; peers: lets instances fetch images from each other; identities: answers what containers ask
    for by their tokens. A fault of `images` costs a pod its store, not its instance."""

    def __init__(
        self,
        room: Instances,
        images: PodImages,
        facts: PodFacts | None = None,
        peers: PodPeers | None = None,
        identities: PodIdentities | None = None,
    ) -> None:
        self.room, self.images = room, images
        self._facts = facts or NoFacts()
        self.peers: PodPeers = peers or NoPeers()
        self.identities: PodIdentities = identities or NoIdentities()

    def join(self, record: PodRecord) -> None:
        """Wait for an instance. Where the pod has to prove first that it may have a store, or something about it has to
        be asked, that takes a while, in a task: the pod's worker is free for its deletion."""
        if record.assignment.is_wanted or not record.is_wanting():
            return
        store, given = self._choose(record), self._facts.peek(record.pod)
        if store is None or given is None:
            proof = asyncio.create_task(self._prove(record), name=f"proof of pod {record.uid}")
            record.assignment.prove(proof)
        else:
            self._acquire(record, store, given)

    def choose_again(self, record: PodRecord, before: str) -> str:
        """The store for another try; `before`, which the pod was allowed, where that would have to be proved."""
        chosen = self._choose(record)
        return chosen if chosen is not None else before

    def withdraw(self, record: PodRecord) -> None:
        """No instance is needed any more."""
        if record.assignment.demand is not None:
            self.room.supply.withdraw(record.uid)
        record.assignment.give_up()

    def leave(self, record: PodRecord) -> None:
        """The pod is gone."""
        self.withdraw(record)
        self.peers.leave(record)
        self.identities.leave(record)
        self.images.forget(record)

    def _choose(self, record: PodRecord) -> str | None:
        with contained(f"the image store of pod {record.key}"):
            return self.images.choose(record.pod)
        return ""

    async def _prove(self, record: PodRecord) -> None:
        store, given = await asyncio.gather(self._prove_store(record), self._facts.find(record.pod))
        record.assignment.end_proof()
        if record.is_wanting():
            self._acquire(record, store, given)

    async def _prove_store(self, record: PodRecord) -> str:
        with contained(f"the image store of pod {record.key}"):
            return await self.images.prove(record.pod)
        return ""

    def _acquire(self, record: PodRecord, image_store: str, given: Given) -> None:
        demand = Demand(
            record.uid,
            record.namespace,
            record.name,
            record.node,
            record.pod,
            record.assignment.attempt,
            int(record.pod["spec"].get("priority") or 0),
            record.bound_at,
            record.first.inherited,
            image_store,
            given,
        )
        record.assignment.wait(demand)
        self.room.supply.acquire(demand)
