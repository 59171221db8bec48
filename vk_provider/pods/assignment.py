"""How a pod comes to its instance: whether it may have one, and what it waits for or has. Parts of record.PodRecord."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from vk_provider.instances.demand import Demand
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json

LOOKING = "looking for its instance"
"""`hold` of a pod whose instance is not in the cloud's answers: it ran, or its status names an instance."""
SETTLING = "waiting for the cloud's listing"
"""`hold` of a pod that may have an instance that the cloud does not list yet."""


@dataclass(slots=True, eq=False)
class Admission:
    """Whether the pod was admitted. hold: why it is left without an instance, "" for no reason."""

    admitted: bool = False
    hold: str = ""

    @property
    def is_looked_for(self) -> bool:
        """Whether the pod may have an instance that is not known yet."""
        return self.hold in (LOOKING, SETTLING)

    def admit(self, hold: str = "") -> None:
        self.admitted, self.hold = True, hold

    def wait(self, reason: str) -> None:
        """Before or after admission: no launch meanwhile."""
        self.hold = reason

    def go_on(self) -> None:
        self.hold = ""


@dataclass(slots=True, eq=False)
class Assignment:
    """The pod's instance: waited for, or assigned; at most one at a time.

    proof:   asks whether the pod may have the prepared store that would fit, and other facts; `demand` follows
    demand:  the pod waits for an instance
    message: why this instance, for a condition
    attempt: number of the launch for this pod; a failed boot is followed by the next attempt
    sent_from: not before is the pod sent to an agent that does not say that it has it; time.monotonic()
    """

    owned: OwnedInstance | None = None
    proof: asyncio.Task[None] | None = None
    demand: Demand | None = None
    message: str = ""
    attempt: int = 0
    sent_from: float = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether an instance is on its way, or will be asked for."""
        return self.demand is not None or self.proof is not None

    def prove(self, proof: asyncio.Task[None]) -> None:
        self.proof = proof

    def end_proof(self) -> None:
        self.proof = None

    def wait(self, demand: Demand) -> None:
        self.demand = demand

    def see(self, pod: Json) -> None:
        """The pod has changed: the next request is made of it."""
        if self.demand is not None:
            self.demand.pod = pod

    def give_up(self) -> None:
        """No instance is waited for any more."""
        if self.proof is not None:
            self.proof.cancel()
        self.demand = self.proof = None

    def take(self, owned: OwnedInstance, message: str = "") -> None:
        self.owned, self.demand = owned, None
        self.message = message or self.message
        self.attempt = max(self.attempt, owned.attempt)

    def start_over(self) -> None:
        """The instance never booted: nothing of the pod has run on it."""
        self.owned = None
        self.attempt += 1

    def drop(self) -> None:
        """The instance is another pod's."""
        self.owned = None
