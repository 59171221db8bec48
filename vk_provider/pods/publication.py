"""What the API server has of a pod's status, and what it should have. Parts of record.PodRecord."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.pods.status_patch import Altered


@dataclass(slots=True, eq=False)
class Publication:
    """What the API server holds of the status. Written by status_publisher.

    held:       our fields of the status as the API server holds them (owned_status), at resourceVersion `version`; None
                while it holds none
    altered:    fields that the API server does not store as they were sent (status_patch.Altered)
    refused:    the status that the API server did not accept, so that it is not sent again
    restoring:  another writer has changed the status since it was published; restored_at: when that was last put right
    unaccepted_since: since when the API server, which answers, does not accept the status; 0.0 while it does
    pending_due: when a pod that does not run yet says Pending
    """

    held: Json | None = None
    version: int = 0
    altered: Altered = field(default_factory=dict)
    refused: Json | None = None
    restoring: bool = False
    restored_at: float = 0.0
    unaccepted_since: float = 0.0
    unaccepted_reported: bool = False
    pending_due: float = 0.0
    reached_running: bool = False

    def postpone_pending(self, until: float) -> None:
        self.pending_due = max(self.pending_due, until)

    def set_restoring(self, restoring: bool) -> None:
        """False: what we say has changed, and is published for that."""
        self.restoring = restoring

    def note_running(self) -> None:
        """Running, or more, was published before."""
        self.reached_running = True


@dataclass(slots=True, eq=False)
class Judgement:
    """What state.py has computed and keeps while nothing of it was replaced.

    desired: what `Report.status` and the fields beside it make of it (state.desired_status); desired_of: those fields
    judged:  whether the API server holds the desired status (state.is_current), judged by the fields `judged_by`
    """

    desired: Json | None = None
    desired_of: tuple[Any, ...] = (None, None, None, "")
    judged: bool | None = None
    judged_by: tuple[Any, ...] = ()
