"""What must hold, as sentences."""

from __future__ import annotations

from dataclasses import dataclass

TWO_INSTANCES = "the containers of a pod ran on two instances"
FAILED_WHILE_RUNNING = "a pod was failed while its containers ran"
ENDED_WHILE_RUNNING = "the instance of a running pod was ended"
STOPPED_WHILE_GIVEN = "the instance of a pod was stopped"
RUNS_IDLE = "an instance of a stopped pool runs while nobody has it"
OUTLIVED = "an instance without a pod outlived the sweep"
OVERFULL = "a pool was filled beyond its size"
NOT_FULL = "a pool is not filled"
STATUS_MISSING = "the API server does not have the status that the agent told last"
WRONG_STATE = "a pod is not in the state that its spec, its agent and the cloud allow"
DELETION_STUCK = "a deleted pod stays although nothing holds it"
STALE = "an agent does not have the newest pod, references, Services or tables"
UNHANDLED = "an unexpected exception"
TASKS_LEFT = "tasks are left after the stop"
MEMORY = "something is kept of what is gone"
WAITS_FOR_EVER = "somebody waits for ever"
UNMARKED = "an instance of a pool has a pod that its tags do not name"
LEAKED = "an instance was sent a pod that it was not given to"
BILL = "the ledger does not say what the cloud's bill says"


@dataclass(frozen=True, slots=True)
class Violation:
    """invariant: one of the sentences above."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"
