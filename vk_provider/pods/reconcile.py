"""Decides the next actions for a pod: one pure function of its state.

It alone defines the order of a pod's life: launch, connect, send, publish, archive, delete, terminate. It is
level-triggered: every call decides from the whole state, and the order of events does not matter.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

ORPHAN_STOP_LIMIT_S = 5.0
"""How long a pod whose API object is already gone may take to stop before its instance is terminated. A kubelet kills
such pods with a grace period of 1 s (2 s at least in effect)."""


class Action(StrEnum):
    """Actions that the executor carries out in the given order."""

    ADMIT = "admit"
    LAUNCH = "launch"
    CONNECT = "connect"
    SEND = "send"
    MARK_NOT_READY = "mark-not-ready"
    PUBLISH = "publish"
    PUBLISH_PENDING = "publish-pending"
    FAIL_NEVER_STARTED = "fail-never-started"
    FAIL_EXPIRED = "fail-expired"
    FAIL_LOST = "fail-lost"
    FAIL_REJECTED = "fail-rejected"
    RELAUNCH = "relaunch"
    STOP = "stop"
    ARCHIVE = "archive"
    DELETE = "delete"
    TERMINATE = "terminate"
    FORGET = "forget"


class PodState(msgspec.Struct, frozen=True, gc=False):
    """The facts that `reconcile` decides by. A Struct, because every pass over a pod makes one.

    exists/deleting:  the API object
    node_known:       the Node was read or registered, so that a pod can be admitted to it
    admitted/held:    passed admission; held: left Pending on purpose, without an instance
    launching:        a launch is running
    has_instance:     an instance exists or may exist (costs money); lost: the cloud says that it is gone
    boot_failed:      the instance never answered within the limit
    connected:        a session is open, and the pod may be sent; connecting: a task is dialing
    silent:           the agent was silent for longer than the grace period; not_ready: Ready=False is desired
    sent:             the agent has our newest pod and references
    given:            an agent was given the pod: something of it may run
    awaited:          an earlier process may have given it to an agent that has not spoken yet, or is not listed
    terminal:         the newest status has a terminal phase; finished: nothing runs any more
    rejected:         that status says nothing of the containers: the pod failed before anything was done for it
    published:        the API server holds our newest status; api_deleted: our final DELETE was accepted
    unaccepted:       the API server answers, but has not accepted our newest status for too long
    expired:          past activeDeadlineSeconds, and no agent was given the pod, which would see to that
    pending_due:      Pending for so long that a status should be published
    stop_waited_s:    time since `stop` was sent for a pod without API object; None before
    """

    exists: bool
    deleting: bool = False
    node_known: bool = True
    admitted: bool = False
    held: bool = False
    launching: bool = False
    has_instance: bool = False
    lost: bool = False
    boot_failed: bool = False
    attempts_left: bool = True
    connected: bool = False
    connecting: bool = False
    silent: bool = False
    not_ready: bool = False
    sent: bool = False
    given: bool = False
    awaited: bool = False
    has_status: bool = False
    terminal: bool = False
    finished: bool = False
    rejected: bool = False
    published: bool = True
    unaccepted: bool = False
    api_deleted: bool = False
    expired: bool = False
    pending_due: bool = False
    archived: bool = False
    stop_waited_s: float | None = None


def reconcile(state: PodState) -> list[Action]:
    """Return the actions due now."""
    if not state.exists:
        return _leave(state)
    if is_over(state):
        return [Action.FAIL_REJECTED] if state.rejected and (state.deleting or state.expired) else _finish(state)
    if state.lost:
        return [Action.FAIL_LOST]
    if state.expired and state.admitted and not state.deleting and not _may_run(state):
        return [Action.FAIL_EXPIRED]
    if state.boot_failed and not state.deleting:
        return [Action.RELAUNCH if state.attempts_left else Action.FAIL_LOST]
    if state.deleting and not _may_run(state):
        return [Action.FAIL_NEVER_STARTED]
    if not state.admitted:
        return [Action.ADMIT] if state.node_known else []
    if state.held or (state.awaited and (state.deleting or state.expired)):
        return []
    if not state.has_instance:
        return [] if state.launching else [Action.LAUNCH]
    return _run(state)


def is_over(state: PodState) -> bool:
    """Whether nothing of the pod runs any more and its terminal status is known."""
    if state.terminal and (not state.has_instance or state.lost or state.boot_failed):
        return True
    return (state.terminal or state.deleting) and state.finished


def _may_run(state: PodState) -> bool:
    """Whether containers of the pod may be running that must be stopped within its grace period."""
    if not state.has_instance:
        return state.awaited or (state.held and state.has_status)  # its instance is being looked for
    return state.connected or state.has_status or state.given


def _run(state: PodState) -> list[Action]:
    actions = []
    if not state.connected and not state.connecting:
        actions.append(Action.CONNECT)
    if state.connected and not state.sent:
        actions.append(Action.SEND)
    if state.silent and not state.not_ready:
        actions.append(Action.MARK_NOT_READY)
    if not state.published:
        actions.append(Action.PUBLISH)
    elif state.pending_due and not state.has_status:
        actions.append(Action.PUBLISH_PENDING)
    return actions


def _finish(state: PodState) -> list[Action]:
    """Nothing runs any more: publish the status, archive the logs unless the pod is deleted, terminate the instance.

    A status that was not accepted for too long is published last, so that it does not keep the instance.
    """
    actions = []
    if not state.published and not state.unaccepted:
        actions.append(Action.PUBLISH)
    if state.deleting and not state.api_deleted:
        actions.append(Action.DELETE)
    if not state.deleting and state.has_instance and not state.archived:
        actions.append(Action.ARCHIVE)
    if state.has_instance:
        actions.append(Action.TERMINATE)
    if not state.published and state.unaccepted:
        actions.append(Action.PUBLISH)
    return actions


def _leave(state: PodState) -> list[Action]:
    """The API object is gone (force deletion, or our own final DELETE)."""
    if not state.has_instance:
        return [Action.FORGET]
    stopping = state.connected and not state.finished
    if stopping and state.stop_waited_s is None:
        return [Action.STOP]
    if stopping and state.stop_waited_s is not None and state.stop_waited_s < ORPHAN_STOP_LIMIT_S:
        return []
    return [Action.TERMINATE, Action.FORGET]
