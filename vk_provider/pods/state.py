"""Computes from a record the facts that `reconcile` decides by. Pure: `now` is time.monotonic()."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import find_end
from vk_provider.podmodel.deadline import deadline_s
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.reconcile import ORPHAN_STOP_LIMIT_S, AgentOfPod, InstanceOfPod, PodState, StatusOfPod
from vk_provider.pods.record import FirstSight, PodRecord
from vk_provider.pods.status_patch import compute_desired, is_published, keep_transition_times
from vk_provider.pods.transitions import keep_final_ends
from vk_provider.pods.unlocated import is_untold

MAX_ATTEMPTS = 3
DEFAULT_GRACE_S = 30
DELETION_OVERDUE_S = 60.0
"""Time after the grace period until the instance of a terminating pod with an unreachable agent is terminated."""
DELETION_RESISTED_S = 600.0
"""The same for a deleted pod whose agent answers: it hangs, or it lies, as one may that its pod has taken over."""


UNACCEPTED_LIMIT_S = 600.0
"""How long the instance of a finished pod is kept because the API server, which answers, refuses its last status."""


RESTORE_INTERVAL_S = 10.0
"""Two writers that correct each other do so no more often: the interval of a kubelet's status manager (syncBatch)."""
READING_PATIENCE_S = 10.0
"""How much longer a pod whose references are being read stays without a status of its own."""


def compute_state(
    record: PodRecord,
    now: float,
    agent_grace_s: float,
    *,
    node_known: bool = True,
    may_be_served: Callable[[PodRecord], bool] = lambda record: False,
) -> PodState:
    """The facts of one record. agent_grace_s: how long an agent may be silent before its pod is not Ready any more.
    may_be_served: whether an instance that has not spoken may have the pod; asked where it matters."""
    given = is_given(record)
    owned = record.assignment.owned
    # A terminal phase in the API does not mean that the containers have terminated, if an agent was given the pod.
    ended_unseen = record.first.ended is not None and not given
    expired = is_expired(record, now)
    untold = is_end_untold(record)
    return PodState(
        exists=record.exists,
        deleting=record.deleting,
        delete_due=not record.leaving.deletion.accepted and now >= record.leaving.deletion.due_at,
        node_known=node_known,
        admitted=record.admission.admitted or owned is not None,
        held=bool(record.admission.hold),
        expired=expired,
        archived=record.leaving.archived,
        instance=InstanceOfPod(
            launching=record.assignment.is_wanted,
            present=record.has_instance,
            lost=bool(record.loss),
            boot_failed=bool(record.boot_failed),
            attempts_left=record.assignment.attempt + 1 < MAX_ATTEMPTS,
        ),
        agent=AgentOfPod(
            connected=owned is not None and owned.link.session is not None and not owned.unmarked,
            connecting=owned is not None and owned.link.task is not None,
            silent=_silent_s(record, now) >= agent_grace_s,
            sent=_is_sent(record),
            withheld=_is_withheld(record, now),
            given=given,
            awaited=(record.deleting or expired) and _is_awaited(record, may_be_served),
            stop_waited_s=now - record.leaving.stop_sent_at if record.leaving.stop_sent_at else None,
        ),
        status=StatusOfPod(
            from_agent=record.report.from_agent or record.first.started,
            terminal=record.phase in TERMINAL_PHASES,
            finished=record.report.finished or ended_unseen,
            untold=untold,
            telling=untold
            and record.first.ended is not None
            and now >= record.leaving.tell_at
            and not may_be_served(record),
            not_ready=record.report.not_ready is not None,
            published=is_current(record) or now < _restore_due(record),
            held_ended=is_end_held(record),
            unaccepted=is_unaccepted(record, now),
            pending_due=record.publication.held is None and (now >= _pending_due(record) or _ended_by_others(record)),
        ),
    )


def _is_sent(record: PodRecord) -> bool:
    """Whether the agent has our newest pod and references, and knows whether it has to stop the pod."""
    sent, reading = record.sent, record.reading
    return (
        sent.fingerprint is not None
        and reading.task is None
        and not reading.references_changed
        and not reading.services_changed
        and sent.fingerprint == compute_fingerprint(record)
        and not is_stop_due(record)
    )


def is_end_untold(record: PodRecord) -> bool:
    """Whether a terminal pod that has no instance lacks the end of a container: it was rejected, or had its phase when
    it was first seen. What an agent has told as its last word is all there is to tell."""
    if record.phase not in TERMINAL_PHASES or record.has_instance:
        return False
    if is_rejected(record):
        return True
    ended_first = record.first.ended is not None and not record.report.finished
    return ended_first and is_untold(record.pod, known_status(record))


def known_status(record: PodRecord) -> Json:
    """The newest status: our own, or the API's of a pod that had ended when it was first seen."""
    status: Json | None = record.report.status
    if status is None and record.first.ended is not None:
        status = record.pod.get("status")
    return status or {}


def is_end_held(record: PodRecord) -> bool:
    """Whether the API server holds a terminal phase, or has refused ours."""
    held, refused = record.publication.held, record.publication.refused
    return refused is not None or (held or record.pod.get("status") or {}).get("phase") in TERMINAL_PHASES


def _is_withheld(record: PodRecord, now: float) -> bool:
    """Whether the pod is not sent yet. Its agent may say that it has it: then nothing of it begins anew."""
    owned = record.assignment.owned
    return now < record.assignment.sent_from and (owned is None or owned.said_uid != record.uid)


def is_rejected(record: PodRecord) -> bool:
    """Whether the pod has a terminal phase and a status without containers, as one that was not admitted."""
    is_over = record.phase in TERMINAL_PHASES and not record.has_instance
    return is_over and not known_status(record).get("containerStatuses")


def is_stop_due(record: PodRecord) -> bool:
    """Whether the agent has the pod and was not told yet that the cloud takes the instance back. A pod that is deleted
    is being stopped."""
    owned = record.owned
    if owned is None or owned.interruption is None or not owned.interruption.begun:
        return False
    if record.deleting or record.report.finished:
        return False
    return owned.sent.fingerprint is not None and not owned.sent.stopped


def next_look_s(record: PodRecord, seen: PodState, seen_at: float, now: float, agent_grace_s: float) -> float | None:
    """Seconds from `now` until the passing of time alone changes the state `seen`; None when it does not.

    What became due after `seen_at`, when the state was computed, was not acted on: 0, look again.
    """
    due = []
    if not record.exists and record.leaving.stop_sent_at:
        due.append(record.leaving.stop_sent_at + ORPHAN_STOP_LIMIT_S)
    if record.report.silent_since and record.session is None and not seen.agent.silent:
        due.append(record.report.silent_since + agent_grace_s)
    overdue_at = _overdue_at(record)
    if overdue_at is not None:
        due.append(overdue_at)
    if seen.agent.withheld:
        due.append(record.assignment.sent_from)
    expires_at = _expires_at(record)
    if expires_at is not None and not seen.expired:
        due.append(expires_at)
    waits_for_status = (
        record.publication.held is None and not record.admission.hold and record.phase not in TERMINAL_PHASES
    )
    if waits_for_status and not seen.status.pending_due:
        due.append(record.publication.pending_due if seen_at < record.publication.pending_due else _pending_due(record))
    if seen_at < _restore_due(record):
        due.append(_restore_due(record))
    if record.deleting and not record.leaving.deletion.accepted and seen_at < record.leaving.deletion.due_at:
        due.append(record.leaving.deletion.due_at)
    if seen.status.untold and record.first.ended is not None and seen_at < record.leaving.tell_at:
        due.append(record.leaving.tell_at)
    return max(0.0, min(due) - now) if due else None


def note_first(record: PodRecord, *, inherited: bool = False) -> None:
    """Take from the API's status what only counts when the pod is seen for the first time."""
    status = record.pod.get("status") or {}
    record.see_first(FirstSight(record.api_phase, find_end(status), has_started(record.pod), inherited))


def _ended_by_others(record: PodRecord) -> bool:
    """Whether a pod without a status of its own has a terminal phase of another writer."""
    return record.first.ended is None and record.api_phase in TERMINAL_PHASES


def _restore_due(record: PodRecord) -> float:
    """When a status that another writer changed may be put right: at once, and again after RESTORE_INTERVAL_S."""
    return (
        record.publication.restored_at + RESTORE_INTERVAL_S
        if record.publication.restoring and record.publication.restored_at
        else 0.0
    )


def is_unaccepted(record: PodRecord, now: float) -> bool:
    """Whether the API server, which answers, has not accepted the newest status for too long."""
    return bool(record.publication.unaccepted_since) and now - record.publication.unaccepted_since >= UNACCEPTED_LIMIT_S


def _pending_due(record: PodRecord) -> float:
    """When a Pending status is published. Not at once while the pod waits for reads of the API server: in a burst the
    PATCH would only join the queue that those wait in."""
    reading = record.reading.task is not None and (record.session is not None or not record.reading.task.done())
    return record.publication.pending_due + (READING_PATIENCE_S if reading else 0.0)


def is_overdue(record: PodRecord, now: float) -> bool:
    """Whether the agent of a terminating pod was unreachable for so long, or has not ended a deleted one for so long,
    that no terminal status will come."""
    overdue_at = _overdue_at(record)
    return overdue_at is not None and now >= overdue_at


def _overdue_at(record: PodRecord) -> float | None:
    ending = record.deleting or record.phase in TERMINAL_PHASES
    if not (ending and record.has_instance and is_given(record)) or record.report.finished or record.loss:
        return None
    if record.deleting:
        grace_s = float(record.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    else:
        grace_s = float(record.pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))
    if record.session is not None:
        return record.ending_since + grace_s + DELETION_RESISTED_S if record.deleting else None
    if not record.report.silent_since:
        return None
    return max(record.report.silent_since, record.ending_since) + grace_s + DELETION_OVERDUE_S


def is_expired(record: PodRecord, now: float) -> bool:
    """Whether activeDeadlineSeconds is over for a pod that no agent was given."""
    expires_at = _expires_at(record)
    return expires_at is not None and now >= expires_at


def _expires_at(record: PodRecord) -> float | None:
    """When activeDeadlineSeconds is over for a pod that waits for its instance, or was rejected; None when it has no
    deadline, was given to an agent, or need not wait any more."""
    seconds = deadline_s(record.pod)
    if seconds is None or is_given(record) or (record.phase in TERMINAL_PHASES and not is_rejected(record)):
        return None
    return record.active_since + seconds


def _silent_s(record: PodRecord, now: float) -> float:
    return now - record.report.silent_since if record.report.silent_since and record.session is None else 0.0


def is_given(record: PodRecord) -> bool:
    """Whether an agent was given the pod, by this process or perhaps by an earlier one: containers may run."""
    owned = record.owned
    if record.report.from_agent or record.first.started:
        return True
    if owned is None:
        return False
    is_told = owned.sent_uid or owned.said_uid == record.uid
    return bool(is_told) or (owned.handover_unknown and not record.boot_failed)


def _is_awaited(record: PodRecord, may_be_served: Callable[[PodRecord], bool]) -> bool:
    """Whether an earlier process may have given the pod to an agent that is not known yet."""
    if not record.first.inherited or record.owned is not None or record.first.ended is not None:
        return False
    return record.admission.is_looked_for or may_be_served(record)


def has_started(pod: Json) -> bool:
    """Whether the API's status shows that an agent had the pod: a container has or had an ID, or it is Running."""
    status = pod.get("status") or {}
    if status.get("phase") == "Running":
        return True
    return any(
        item.get("containerID")
        for field in ("initContainerStatuses", "containerStatuses")
        for item in status.get(field) or []
    )


def compute_fingerprint(record: PodRecord) -> Any:
    """Changes when the pod must be sent to the agent again, and not with our own status PATCHes."""
    metadata, spec = record.pod["metadata"], record.pod["spec"]
    gates = {gate["conditionType"] for gate in spec.get("readinessGates") or []}
    conditions = [
        (condition["type"], condition["status"])
        for condition in (record.pod.get("status") or {}).get("conditions") or []
        if condition["type"] in gates
    ]
    return (
        metadata.get("generation") or spec,
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
        metadata.get("labels"),
        metadata.get("annotations"),
        conditions,
        record.first.ended is not None,
    )


def desired_status(record: PodRecord) -> Json | None:
    """The status that the API server should hold (owned_status); None while there is nothing to publish."""
    return _desired_beside(record, record.publication.held)


def _desired_beside(record: PodRecord, held: Json | None) -> Json | None:
    """The desired status if the API server held `held`."""
    status = record.report.status
    if status is None and record.report.not_ready is not None:
        status = held
    if status is None:
        return None
    # Asked for several times for each status: what it is made of is replaced, never changed.
    kept = record.judgement
    known, ended, not_ready, start_time = kept.desired_of
    if (
        kept.desired is None
        or known is not status
        or ended is not record.first.ended
        or not_ready is not record.report.not_ready
        or start_time is not record.start_time
    ):
        desired = compute_desired(status, record.first.ended, record.report.not_ready)
        if record.start_time:
            desired["startTime"] = record.start_time
        kept.desired = desired
        kept.desired_of = (status, record.first.ended, record.report.not_ready, record.start_time)
    return keep_final_ends(record.pod, held, kept.desired)


def is_current(record: PodRecord) -> bool:
    """Whether the API server holds our newest status, or has refused just that one."""
    # Asked for in every pass over the record: what it is judged by is replaced, never changed.
    kept = record.judgement
    judged_by = (
        record.publication.held,
        record.report.status,
        record.first.ended,
        record.report.not_ready,
        record.start_time,
        record.publication.refused,
        record.pod["metadata"].get("generation") or record.pod,
    )
    if kept.judged is None or any(map(operator.is_not, judged_by, kept.judged_by)):
        kept.judged = _is_current_beside(record, record.publication.held)
        kept.judged_by = judged_by
    return kept.judged


def is_restoring(record: PodRecord, before: Json | None) -> bool:
    """Whether the API server does not hold our newest status any more: it did while it held `before`."""
    if record.publication.held == before:
        return record.publication.restoring
    return _is_current_beside(record, before) and not is_current(record)


def _is_current_beside(record: PodRecord, held: Json | None) -> bool:
    desired = _desired_beside(record, held)
    if desired is None or desired == record.publication.refused:
        return True
    return is_published(held, keep_transition_times(desired, held, ""))
