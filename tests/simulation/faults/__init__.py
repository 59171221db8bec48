"""Known faults, to be put back: each was in the provider once, and the seeds must find it.

A fault changes the provider's code in the process that runs the seed, as little as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import invariants as must
from tests.simulation.faults import (
    adopted_unmarked,
    believed_word,
    early_pod,
    hanging_launch,
    hanging_references,
    idle_without_tables,
    ignored_mark,
    looks_for_ever,
    lost_mark,
    lost_ready,
    no_sweep,
    one_bad_id,
    one_missing_answer,
    restart_refuses,
    reused_token,
    shutting_down,
    stale_references,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """put_back: changes the provider's code in this process. found_by: a seed that finds it; breaks: one of these
    invariants, whichever it meets first."""

    put_back: Callable[[], None]
    found_by: int
    breaks: tuple[str, ...]


FAULTS: dict[str, Fault] = {
    "restart-refuses": Fault(restart_refuses.put_back, 15, (must.WRONG_STATE,)),
    "one-missing-answer": Fault(one_missing_answer.put_back, 73, (must.FAILED_WHILE_RUNNING, must.WRONG_STATE)),
    "hanging-references": Fault(hanging_references.put_back, 21, (must.DELETION_STUCK,)),
    "hanging-launch": Fault(hanging_launch.put_back, 5, (must.WRONG_STATE,)),
    "lost-ready": Fault(lost_ready.put_back, 3, (must.STATUS_MISSING,)),
    "reused-token": Fault(reused_token.put_back, 11, (must.WRONG_STATE,)),
    "shutting-down": Fault(shutting_down.put_back, 5, (must.FAILED_WHILE_RUNNING,)),
    "one-bad-id": Fault(one_bad_id.put_back, 0, (must.OUTLIVED, must.MEMORY)),
    "stale-references": Fault(stale_references.put_back, 3, (must.STALE,)),
    "no-sweep": Fault(no_sweep.put_back, 7, (must.OUTLIVED,)),
    "looks-for-ever": Fault(looks_for_ever.put_back, 23, (must.WRONG_STATE,)),
    "idle-without-tables": Fault(idle_without_tables.put_back, 159, (must.STALE,)),
    "believed-word": Fault(believed_word.put_back, 0, (must.LEAKED,)),
    "early-pod": Fault(early_pod.put_back, 4, (must.UNMARKED,)),
    "adopted-unmarked": Fault(adopted_unmarked.put_back, 113, (must.UNMARKED,)),
    "lost-mark": Fault(lost_mark.put_back, 242, (must.WRONG_STATE,)),
    "ignored-mark": Fault(ignored_mark.put_back, 93, (must.LEAKED, must.OUTLIVED, must.NOT_FULL)),
}
