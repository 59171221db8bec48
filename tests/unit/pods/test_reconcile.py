"""What should happen to this pod now: the table of a pod's life."""

from __future__ import annotations

import msgspec
import pytest

from vk_provider.pods.reconcile import ORPHAN_STOP_LIMIT_S, Action, PodState, reconcile

PARTS = ("instance", "agent", "status")


def having(state: PodState, **changes: object) -> PodState:
    """With other facts, by their names, whichever part they are of."""
    for part in PARTS:
        known = getattr(state, part)
        own = {name: changes.pop(name) for name in known.__struct_fields__ if name in changes}
        state = msgspec.structs.replace(state, **{part: msgspec.structs.replace(known, **own)})
    return msgspec.structs.replace(state, **changes)


NEW = PodState(exists=True)
ADMITTED = having(NEW, admitted=True)
BOOTING = having(ADMITTED, present=True, connecting=True)
RUNNING = having(ADMITTED, present=True, connected=True, sent=True, from_agent=True)
ENDED = having(RUNNING, terminal=True, finished=True)


CASES = [
    ("a new pod is admitted", NEW, [Action.ADMIT]),
    ("an admitted pod gets an instance", ADMITTED, [Action.LAUNCH]),
    ("a new pod waits for its Node to be known", having(NEW, node_known=False), []),
    ("a pod whose instance is being launched is left alone", having(ADMITTED, launching=True), []),
    (
        "a pod deleted while its instance is launched never started",
        having(ADMITTED, launching=True, deleting=True),
        [Action.FAIL_NEVER_STARTED],
    ),
    (
        "a pod removed while its instance is launched is forgotten",
        having(ADMITTED, launching=True, exists=False),
        [Action.FORGET],
    ),
    (
        "a last status that is not accepted yet keeps the instance, as nobody else knows it",
        having(ENDED, published=False),
        [Action.PUBLISH, Action.ARCHIVE, Action.TERMINATE],
    ),
    (
        "a last status that is not accepted for too long comes after the end of the instance",
        having(ENDED, published=False, unaccepted=True),
        [Action.ARCHIVE, Action.TERMINATE, Action.PUBLISH],
    ),
    ("a held pod costs nothing", having(ADMITTED, held=True), []),
    ("an instance nobody dials is dialed", having(BOOTING, connecting=False), [Action.CONNECT]),
    ("a booting instance is left alone", BOOTING, []),
    ("a pod that boots for long says Pending", having(BOOTING, pending_due=True), [Action.PUBLISH_PENDING]),
    ("a connected agent is sent the pod", having(BOOTING, connected=True), [Action.SEND]),
    ("a running pod with nothing new is left alone", RUNNING, []),
    ("a new status is published", having(RUNNING, published=False), [Action.PUBLISH]),
    ("changed references are sent", having(RUNNING, sent=False), [Action.SEND]),
    ("a deletion of a running pod goes to the agent", having(RUNNING, deleting=True, sent=False), [Action.SEND]),
    (
        "a deletion while the agent is unreachable waits for it",
        having(RUNNING, deleting=True, connected=False, connecting=True),
        [],
    ),
    (
        "a pod deleted before it had an instance never started",
        having(ADMITTED, deleting=True),
        [Action.FAIL_NEVER_STARTED],
    ),
    (
        "a pod deleted while its instance boots never started",
        having(BOOTING, deleting=True),
        [Action.FAIL_NEVER_STARTED],
    ),
    (
        "a pod whose deadline passes while it waits for an instance fails",
        having(ADMITTED, expired=True),
        [Action.FAIL_EXPIRED],
    ),
    ("a pod is admitted before its deadline counts", having(NEW, expired=True), [Action.ADMIT]),
    (
        "a pod whose deadline passes while its instance is launched fails",
        having(ADMITTED, launching=True, expired=True),
        [Action.FAIL_EXPIRED],
    ),
    (
        "a pod whose deadline passes while its instance boots fails",
        having(BOOTING, expired=True),
        [Action.FAIL_EXPIRED],
    ),
    (
        "a pod whose deadline passes as its agent answers is sent, and the agent sees to it",
        having(BOOTING, connected=True, expired=True),
        [Action.SEND],
    ),
    (
        "a pod that is deleted past its deadline was deleted",
        having(ADMITTED, deleting=True, expired=True),
        [Action.FAIL_NEVER_STARTED],
    ),
    (
        "a pod that an agent may have which has not spoken is not failed at its deadline",
        having(ADMITTED, awaited=True, expired=True),
        [],
    ),
    (
        "nor is it while it is looked for",
        having(ADMITTED, held=True, awaited=True, expired=True),
        [],
    ),
    (
        "a deleted pod that an agent may have which has not spoken is not taken for one that never started",
        having(ADMITTED, awaited=True, deleting=True),
        [],
    ),
    (
        "a pod whose instance is being looked for may run, whatever its deadline",
        having(ADMITTED, held=True, from_agent=True, expired=True),
        [],
    ),
    (
        "a pod deleted after it was given to an agent that then went away waits for it",
        having(BOOTING, deleting=True, given=True),
        [],
    ),
    (
        "a deleted pod whose instance is being looked for waits",
        having(ADMITTED, deleting=True, held=True, from_agent=True),
        [],
    ),
    (
        "a deleted pod that is held by policy never started",
        having(ADMITTED, deleting=True, held=True),
        [Action.FAIL_NEVER_STARTED],
    ),
    (
        "a deleted pod of which nothing runs is over, whatever its phase",
        having(RUNNING, deleting=True, finished=True),
        [Action.DELETE, Action.TERMINATE],
    ),
    ("a lost instance fails the pod", having(RUNNING, lost=True, present=False), [Action.FAIL_LOST]),
    (
        "a pod that had ended already stays as it ended when its instance is lost",
        having(RUNNING, terminal=True, lost=True),
        [Action.ARCHIVE, Action.TERMINATE],
    ),
    (
        "an instance that did not boot for a pod that has ended is not replaced",
        having(BOOTING, terminal=True, boot_failed=True),
        [Action.ARCHIVE, Action.TERMINATE],
    ),
    (
        "a terminal phase alone ends nothing while an agent can be asked",
        having(RUNNING, terminal=True, deleting=True, connected=False),
        [Action.CONNECT],
    ),
    (
        "a pod whose agent is silent is marked as not ready",
        having(RUNNING, connected=False, connecting=True, silent=True),
        [Action.MARK_NOT_READY],
    ),
    ("once", having(RUNNING, connected=False, connecting=True, silent=True, not_ready=True), []),
    ("an instance that did not boot is replaced", having(BOOTING, boot_failed=True), [Action.RELAUNCH]),
    (
        "the last attempt that did not boot fails the pod",
        having(BOOTING, boot_failed=True, attempts_left=False),
        [Action.FAIL_LOST],
    ),
    (
        "a finished pod: publish, keep its logs, stop paying",
        having(ENDED, published=False),
        [Action.PUBLISH, Action.ARCHIVE, Action.TERMINATE],
    ),
    ("archived logs are not fetched again", having(ENDED, archived=True), [Action.TERMINATE]),
    (
        "a finished and deleted pod: publish, delete, terminate",
        having(ENDED, published=False, deleting=True),
        [Action.PUBLISH, Action.DELETE, Action.TERMINATE],
    ),
    (
        "a final delete that was accepted, or is to be sent again later, keeps nothing else",
        having(ENDED, deleting=True, delete_due=False),
        [Action.TERMINATE],
    ),
    (
        "what a finalizer holds has no instance and costs nothing",
        having(ENDED, present=False, deleting=True, delete_due=False),
        [],
    ),
    (
        "an object whose last phase another writer took away is deleted when that is back",
        having(ENDED, deleting=True, held_ended=False),
        [Action.TERMINATE],
    ),
    (
        "which is so with the same pass",
        having(ENDED, deleting=True, held_ended=False, published=False),
        [Action.PUBLISH, Action.DELETE, Action.TERMINATE],
    ),
    (
        "an object that takes no status for too long is deleted all the same",
        having(ENDED, deleting=True, held_ended=False, published=False, unaccepted=True),
        [Action.DELETE, Action.TERMINATE, Action.PUBLISH],
    ),
    (
        "a pod that is deleted when it is first seen is admitted as any other",
        having(NEW, deleting=True),
        [Action.ADMIT],
    ),
    (
        "one whose Node is not known is not waited for",
        having(NEW, deleting=True, node_known=False),
        [Action.FAIL_NEVER_STARTED],
    ),
    ("a finished pod without an instance stays as it is", having(ENDED, present=False), []),
    (
        "a terminal status is published before the containers are confirmed gone",
        having(RUNNING, terminal=True, published=False),
        [Action.PUBLISH],
    ),
    (
        "a refused pod is published without an instance",
        having(ADMITTED, terminal=True, finished=True, published=False),
        [Action.PUBLISH],
    ),
    (
        "a refused pod that is deleted is given the status of one that never began",
        having(ADMITTED, terminal=True, finished=True, untold=True, deleting=True),
        [Action.TELL_ENDS],
    ),
    (
        "so is one whose deadline has passed",
        having(ADMITTED, terminal=True, finished=True, untold=True, expired=True),
        [Action.TELL_ENDS],
    ),
    (
        "so is one that had ended when it was first seen, in its turn",
        having(ADMITTED, terminal=True, finished=True, untold=True, telling=True),
        [Action.TELL_ENDS],
    ),
    (
        "then that is published, and the object deleted",
        having(ADMITTED, terminal=True, finished=True, deleting=True, published=False),
        [Action.PUBLISH, Action.DELETE],
    ),
    (
        "a refused pod that nobody deletes keeps its status",
        having(ADMITTED, terminal=True, finished=True, untold=True),
        [],
    ),
    ("a pod whose object is gone is told to stop", having(RUNNING, exists=False), [Action.STOP]),
    ("it is given a moment", having(RUNNING, exists=False, stop_waited_s=1.0), []),
    (
        "then its instance goes",
        having(RUNNING, exists=False, stop_waited_s=ORPHAN_STOP_LIMIT_S),
        [Action.TERMINATE, Action.FORGET],
    ),
    (
        "an unreachable instance of a gone object goes at once",
        having(RUNNING, exists=False, connected=False),
        [Action.TERMINATE, Action.FORGET],
    ),
    ("a gone object without an instance is forgotten", PodState(exists=False), [Action.FORGET]),
]


@pytest.mark.parametrize(("state", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_actions_follow_from_the_state(state: PodState, expected: list[Action]) -> None:
    assert reconcile(state) == expected


@pytest.mark.parametrize("deleting", [False, True])
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_an_instance_is_never_launched_for_a_pod_that_has_one_or_is_over(
    deleting: bool, connected: bool, terminal: bool
) -> None:
    for present, finished in ((True, False), (True, True), (False, True)):
        state = having(
            NEW,
            deleting=deleting,
            admitted=True,
            present=present,
            connected=connected,
            terminal=terminal or finished,
            finished=finished,
            from_agent=connected,
        )
        if present or state.status.terminal:
            assert Action.LAUNCH not in reconcile(state)


def test_a_running_instance_is_terminated_only_when_the_pod_is_over_or_gone() -> None:
    for state in (RUNNING, BOOTING, having(RUNNING, deleting=True), having(RUNNING, connected=False)):
        assert Action.TERMINATE not in reconcile(state)
