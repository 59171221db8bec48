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
    TELL_ENDS = "tell-ends"
    RELAUNCH = "relaunch"
    STOP = "stop"
    ARCHIVE = "archive"
    DELETE = "delete"
    TERMINATE = "terminate"
    FORGET = "forget"


class InstanceOfPod(msgspec.Struct, frozen=True, gc=False):
    """Of the pod's instance.

    launching:     a launch is running
    present:       an instance exists or may exist (costs money); lost: the cloud says that it is gone
    boot_failed:   the instance never answered within the limit
    attempts_left: another one may be launched in its place
    """

    launching: bool = False
    present: bool = False
    lost: bool = False
    boot_failed: bool = False
    attempts_left: bool = True


class AgentOfPod(msgspec.Struct, frozen=True, gc=False):
    """Of the agent on the instance, and of what it was sent.

    connected:     a session is open, and the pod may be sent; connecting: a task is dialing
    silent:        it was silent for longer than the grace period
    sent:          it has our newest pod and references
    withheld:      others are heard first, one of which may have the pod since an earlier process
    given:         an agent was given the pod: something of it may run
    awaited:       an earlier process may have given it to an agent that has not spoken yet, or is not listed
    stop_waited_s: time since `stop` was sent for a pod without API object; None before
    """

    connected: bool = False
    connecting: bool = False
    silent: bool = False
    sent: bool = False
    withheld: bool = False
    given: bool = False
    awaited: bool = False
    stop_waited_s: float | None = None


class StatusOfPod(msgspec.Struct, frozen=True, gc=False):
    """Of the pod's newest status.

    from_agent:  an agent has told one, of this process or perhaps of an earlier one
    terminal:    it has a terminal phase; finished: nothing runs any more
    untold:      the phase is terminal, and the status does not say how each container ended: the pod was rejected, or
                 another writer ended it while nobody looked after it
    telling:     it was seen so first, and it is time to tell
    not_ready:   Ready=False is desired
    published:   the API server holds it
    held_ended:  the API server holds a terminal phase, or takes no status of ours: the object may be deleted
    unaccepted:  the API server answers, but has not accepted it for too long
    pending_due: Pending for so long that a status should be published
    """

    from_agent: bool = False
    terminal: bool = False
    finished: bool = False
    untold: bool = False
    telling: bool = False
    not_ready: bool = False
    published: bool = True
    held_ended: bool = True
    unaccepted: bool = False
    pending_due: bool = False


class PodState(msgspec.Struct, frozen=True, gc=False):
    """The facts that `reconcile` decides by. Structs, because every pass over a pod makes them.

    exists/deleting: the API object; delete_due: our final DELETE was not accepted, and it is time to send it
    node_known:      the Node was read or registered, so that a pod can be admitted to it
    admitted/held:   passed admission; held: left Pending on purpose, without an instance
    expired:         past activeDeadlineSeconds, and no agent was given the pod, which would see to that
    archived:        its logs are kept, or cannot be had any more
    """

    exists: bool
    deleting: bool = False
    delete_due: bool = True
    node_known: bool = True
    admitted: bool = False
    held: bool = False
    expired: bool = False
    archived: bool = False
    instance: InstanceOfPod = InstanceOfPod()
    agent: AgentOfPod = AgentOfPod()
    status: StatusOfPod = StatusOfPod()


def reconcile(state: PodState) -> list[Action]:
    """Return the actions due now."""
    if not state.exists:
        return _leave(state)
    if is_over(state):
        return [Action.TELL_ENDS] if _is_untold(state) else _finish(state)
    if state.instance.lost:
        return [Action.FAIL_LOST]
    if state.expired and state.admitted and not state.deleting and not _may_run(state):
        return [Action.FAIL_EXPIRED]
    if state.instance.boot_failed and not state.deleting:
        return [Action.RELAUNCH if state.instance.attempts_left else Action.FAIL_LOST]
    if not state.admitted and state.node_known:
        return [Action.ADMIT]  # also one that is deleted already (HandlePodAdditions)
    if state.deleting and not _may_run(state):
        return [Action.FAIL_NEVER_STARTED]
    if not state.admitted:
        return []
    if state.held or (state.agent.awaited and (state.deleting or state.expired)):
        return []
    if not state.instance.present:
        return [] if state.instance.launching else [Action.LAUNCH]
    return _run(state)


def is_over(state: PodState) -> bool:
    """Whether nothing of the pod runs any more and its terminal status is known."""
    if state.status.terminal and (not state.instance.present or state.instance.lost or state.instance.boot_failed):
        return True
    return (state.status.terminal or state.deleting) and state.status.finished


def _is_untold(state: PodState) -> bool:
    """A kubelet's pod worker sees a terminal pod when the kubelet sees it first, and one that the kubelet has rejected
    with its deletion or its deadline; its one pass gives every container an end."""
    return state.status.untold and (state.status.telling or state.deleting or state.expired)


def _may_run(state: PodState) -> bool:
    """Whether containers of the pod may be running that must be stopped within its grace period."""
    if not state.instance.present:
        return state.agent.awaited or (state.held and state.status.from_agent)  # its instance is being looked for
    return state.agent.connected or state.status.from_agent or state.agent.given


def _run(state: PodState) -> list[Action]:
    actions = []
    if not state.agent.connected and not state.agent.connecting:
        actions.append(Action.CONNECT)
    if state.agent.connected and not (state.agent.sent or state.agent.withheld):
        actions.append(Action.SEND)
    if state.agent.silent and not state.status.not_ready:
        actions.append(Action.MARK_NOT_READY)
    if not state.status.published:
        actions.append(Action.PUBLISH)
    elif state.status.pending_due and not state.status.from_agent:
        actions.append(Action.PUBLISH_PENDING)
    return actions


def _finish(state: PodState) -> list[Action]:
    """Nothing runs any more: publish the status, archive the logs unless the pod is deleted, terminate the instance.

    A status that was not accepted for too long is published last, so that it does not keep the instance. The object is
    deleted once its last phase is told (canBeDeleted, pkg/kubelet/status/status_manager.go).
    """
    actions = []
    if not state.status.published and not state.status.unaccepted:
        actions.append(Action.PUBLISH)
    if state.deleting and state.delete_due and (actions or state.status.unaccepted or state.status.held_ended):
        actions.append(Action.DELETE)
    if not state.deleting and state.instance.present and not state.archived:
        actions.append(Action.ARCHIVE)
    if state.instance.present:
        actions.append(Action.TERMINATE)
    if not state.status.published and state.status.unaccepted:
        actions.append(Action.PUBLISH)
    return actions


def _leave(state: PodState) -> list[Action]:
    """The API object is gone (force deletion, or our own final DELETE)."""
    if not state.instance.present:
        return [Action.FORGET]
    stopping = state.agent.connected and not state.status.finished
    if stopping and state.agent.stop_waited_s is None:
        return [Action.STOP]
    if stopping and state.agent.stop_waited_s is not None and state.agent.stop_waited_s < ORPHAN_STOP_LIMIT_S:
        return []
    return [Action.TERMINATE, Action.FORGET]
