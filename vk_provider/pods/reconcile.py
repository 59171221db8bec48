"""What should happen to this pod now? One pure function from what is known to the next actions.

The order of a pod's life is readable here and nowhere else: launch, connect, send, publish, archive, delete,
terminate. Every call answers from the whole state again, so nothing depends on which event came first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ORPHAN_STOP_LIMIT_S = 5.0
"""How long a pod whose API object is already gone may take to stop before its instance is taken away. A kubelet kills
such pods with a grace period of 1 s (2 s at least in effect)."""


class Action(StrEnum):
    """Steps that the controller carries out, in the order given, stopping at the first that changes the state."""

    ADMIT = "admit"
    LAUNCH = "launch"
    CONNECT = "connect"
    SEND = "send"
    MARK_NOT_READY = "mark-not-ready"
    PUBLISH = "publish"
    PUBLISH_PENDING = "publish-pending"
    FAIL_NEVER_STARTED = "fail-never-started"
    FAIL_LOST = "fail-lost"
    RELAUNCH = "relaunch"
    STOP = "stop"
    ARCHIVE = "archive"
    DELETE = "delete"
    TERMINATE = "terminate"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class PodState:
    """The facts that decide.

    exists/deleting:  the API object
    node_known:       the Node was read or registered, so that a pod can be admitted to it
    admitted/held:    passed admission; held: left Pending on purpose, without an instance
    launching:        the cloud is asked for an instance
    has_instance:     an instance lives or may live (costs money); lost: the cloud says that it is gone
    boot_failed:      the instance never answered within the limit
    connected:        a session is open; connecting: somebody is dialing
    silent:           the agent was not heard for longer than a node monitor waits; not_ready: that was told
    sent:             the agent has our newest pod and references
    given:            an agent was given the pod: something of it may run
    terminal:         the newest status has a terminal phase; finished: nothing runs any more
    published:        the API server holds our newest status; api_deleted: our final DELETE was accepted
    unaccepted:       the API server answers, but has not taken our newest status for too long
    pending_due:      long enough Pending that a status should say so
    stop_waited_s:    since the agent was told to stop a pod without API object; None before
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
    has_status: bool = False
    terminal: bool = False
    finished: bool = False
    published: bool = True
    unaccepted: bool = False
    api_deleted: bool = False
    pending_due: bool = False
    archived: bool = False
    stop_waited_s: float | None = None


def reconcile(state: PodState) -> list[Action]:
    """Return the actions due now."""
    if not state.exists:
        return _leave(state)
    if is_over(state):
        return _finish(state)
    if state.lost:
        return [Action.FAIL_LOST]
    if state.boot_failed and not state.deleting:
        return [Action.RELAUNCH if state.attempts_left else Action.FAIL_LOST]
    if state.deleting and not _may_run(state):
        return [Action.FAIL_NEVER_STARTED]
    if not state.admitted:
        return [Action.ADMIT] if state.node_known else []
    if state.held:
        return []
    if not state.has_instance:
        return [] if state.launching else [Action.LAUNCH]
    return _run(state)


def is_over(state: PodState) -> bool:
    """Nothing of the pod runs any more, and how it ended is known."""
    if state.terminal and (not state.has_instance or state.lost or state.boot_failed):
        return True
    return (state.terminal or state.deleting) and state.finished


def _may_run(state: PodState) -> bool:
    """Whether something of the pod may be running that has to end by its grace period."""
    if not state.has_instance:
        return state.held and state.has_status  # its instance is being looked for
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
    """Nothing runs any more: tell it, keep the logs if somebody may still ask, stop paying.

    A status that is not accepted for too long comes last: it must not cost money for ever.
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
