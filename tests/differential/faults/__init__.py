"""Known faults, to be put back: each was in this node once, and a recorded case must find it.

A fault is an edit of a copy of the package, from which provider and agents run: `make differential FAULT=name`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "vk_provider"


@dataclass(frozen=True, slots=True)
class Edit:
    """In the file at `path` below the package, `right`, which stands there once, becomes `wrong`."""

    path: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Fault:
    """found_by: names of recorded cases, each of which finds it. number: in the list of the first run's findings"""

    number: str
    found_by: tuple[str, ...]
    edits: tuple[Edit, ...]


_RESTARTS = "agent/worker/rules/restarts.py"
_FEATURES = Edit(
    "node/object.py",
    'status["declaredFeatures"] = sorted(set(spec.declared_features)) or None',
    'status["declaredFeatures"] = None',
)
_DROPPED = (
    Edit(
        "kube/correlator.py",
        'event["count"] = series.count = min(series.count + event["count"], MAX_COUNT)',
        "known = (memory.owner, key)\n        fresh = now - _LAST.get(known, -9.0) >= 5.0\n        "
        "_LAST[known] = now if fresh else _LAST[known]\n        "
        'event["count"] = series.count = series.count + (event["count"] if fresh else 0)',
    ),
    Edit("kube/correlator.py", "SPAM_RATE = 1 / 300", "SPAM_RATE = 1 / 300\n_LAST: dict[Key, float] = {}"),
)

FAULTS: dict[str, Fault] = {
    "end-told-too-early": Fault(
        "01, 02",
        ("onfailure-liveness-restart-status-stuck", "never-image-change-status-stuck"),
        (
            Edit(_RESTARTS, "if before is None or old is None:", "if True:"),
            Edit("agent/worker/status/publisher.py", "if restarts.ended == ended:", "if True:"),
            Edit("pods/transitions.py", "if held is None:", "if True:"),
        ),
    ),
    "no-back-off-of-sidecars": Fault(
        "04",
        ("sidecar-no-backoff",),
        (
            Edit(
                "agent/worker/container/starts.py",
                "if exited is None:\n            return\n        key = back_off_key(ref.spec)",
                'if exited is None or ref.kind == "init":\n            return\n        key = back_off_key(ref.spec)',
            ),
        ),
    ),
    "no-previous-log-of-sidecars": Fault(
        "05",
        ("sidecar-previous-log-lost",),
        (
            Edit(
                _RESTARTS,
                "newest_exited = next((record for record in dead if record.state is State.EXITED), None)\n    keep = 1",
                "newest_exited = None\n    keep = 0",
            ),
        ),
    ),
    "probes-at-once": Fault(
        "06",
        ("liveness-probe-at-once",),
        (
            Edit(
                "agent/worker/probes/schedule.py",
                "self._first_s = max(begun_at_s, self._allowed_s) + self._period_s",
                "self._first_s = begun_at_s",
            ),
        ),
    ),
    "one-dial-of-grpc-probes": Fault(
        "08",
        ("grpc-probe-waits-for-its-port", "grpc-probe-of-a-closed-port"),
        (
            Edit(
                "agent/worker/probes/grpc_call.py",
                "        except (OSError, CallError):  # a TimeoutError is one\n            pass",
                "        except (OSError, CallError) as error:\n"
                '            raise CallError("Unavailable", str(error)) from None',
            ),
        ),
    ),
    "events-of-both-types-together": Fault(
        "09",
        ("warning-events-lost",),
        (
            Edit(
                "kube/correlator.py",
                "self._recall(event.object_key).spam, event.key[0]",
                'self._recall(event.object_key).spam, ""',
            ),
        ),
    ),
    "no-declared-features": Fault(
        "10, 12", ("pod-level-resize-forbidden", "restart-all-never-scheduled"), (_FEATURES,)
    ),
    "no-pod-level-resources": Fault(
        "13",
        ("no-pod-level-resources-in-status",),
        (
            Edit(
                "podmodel/podresources.py",
                '    return {"resources": resources, "allocatedResources": requests}',
                '    own = (pod.get("spec") or {}).get("resources")\n'
                '    return {"resources": resources, "allocatedResources": requests} if own else {}',
            ),
        ),
    ),
    "statuses-of-others-stay": Fault(
        "14",
        ("everything-taken-from-a-status", "status-of-others-not-put-right"),
        (
            Edit(
                "pods/status_publisher.py",
                "    version = resource_version(pod)\n    if version < record.publication.version:",
                "    version = resource_version(pod)\n"
                "    unasked = sent is None and record.publication.held is not None\n"
                "    if unasked or version < record.publication.version:",
            ),
        ),
    ),
    "phases-of-others-count": Fault(
        "15",
        ("phase-failed-set-by-others",),
        (
            Edit(
                "pods/controller.py",
                "            note_held(record, record.pod)\n            record.publication.set_restoring",
                "            note_held(record, record.pod)\n"
                "            note_first(record, inherited=record.first.inherited)\n"
                "            record.publication.set_restoring",
            ),
        ),
    ),
    "equal-warnings-dropped": Fault("16", ("counts-of-warning-events",), _DROPPED),
    "own-words-of-a-host-path": Fault(
        "18",
        ("hostpath-messages",),
        (
            Edit(
                "agent/volumes/hostpath.py",
                "is not a {expected}, it's a {found}",
                "is no {expected}",
            ),
        ),
    ),
    "no-local-annotations": Fault(
        "19",
        ("downward-api-annotations",),
        (
            Edit(
                "agent/worker/rules/spec.py",
                'local = {"kubernetes.io/config.seen": first_seen, "kubernetes.io/config.source": "api"}',
                "local: dict[str, str] = {}",
            ),
        ),
    ),
    "other-reason-at-the-end": Fault(
        "21",
        ("ready-reason-of-a-pod-that-never-started",),
        (
            Edit(
                "podmodel/status.py",
                "    built = _build_conditions(pod, every, sandbox, phase, previous,",
                '    shown: Phase = "Failed" if finished and phase not in TERMINAL_PHASES else phase\n'
                "    built = _build_conditions(pod, every, sandbox, shown, previous,",
            ),
        ),
    ),
    "first-condition-without-reason": Fault(
        "22",
        ("rejected-and-deleted", "rejected-with-init-containers-and-deleted"),
        (
            Edit(
                "podmodel/conditions.py",
                'return _condition(READY_TO_START, False, "PodSandboxNotReady", sandbox_message)',
                "return _condition(READY_TO_START, False)",
            ),
        ),
    ),
    "affinity-unheeded": Fault(
        "of admission",
        ("node-affinity-unmet",),
        (Edit("podmodel/nodematch.py", "    if required is None:", "    if True:"),),
    ),
    "taints-unheeded": Fault(
        "of admission",
        ("taint-untolerated",),
        (Edit("podmodel/nodematch.py", "    if not taints:", "    if True:"),),
    ),
    "rejected-stays-as-it-was": Fault(
        "of admission",
        ("rejected-and-deleted", "rejected-with-init-containers-and-deleted", "rejected-and-past-its-deadline"),
        (
            Edit(
                "pods/reconcile.py",
                "if _is_untold(state) else _finish(state)",
                "if False else _finish(state)",
            ),
        ),
    ),
}


def copy_with(fault: Fault, directory: Path) -> None:
    """The package with the fault, below `directory`. Raises ValueError when it does not fit the package any more."""
    target = directory / PACKAGE.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in fault.edits:
        file = target / edit.path
        text = file.read_text()
        if text.count(edit.right) != 1:
            raise ValueError(f"{edit.path} has {text.count(edit.right)} times, not once: {edit.right}")
        file.write_text(text.replace(edit.right, edit.wrong))
