"""What is known to differ, and deliberate: a matcher and a reason each, and a case that shows it.

`make differential` plays the cases first; what they no longer show has to leave this list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.differential.case import Case, parse_case
from tests.differential.difference import Difference

EXAMPLES = Path(__file__).parent / "known"


@dataclass(frozen=True, slots=True)
class Known:
    """Differences whose kind `pattern` matches from its beginning; `example` is a manifest in known/ that shows one.

    always: every pod shows it, so a pair with nothing else counts as equal
    """

    name: str
    pattern: str
    reason: str
    example: str
    always: bool = False

    def matches(self, difference: Difference) -> bool:
        """Whether this difference is one of them."""
        return re.match(self.pattern, difference.kind) is not None

    def case(self) -> Case:
        """The example."""
        return parse_case(self.name, (EXAMPLES / self.example).read_text())


KNOWN: tuple[Known, ...] = (
    Known(
        "the choice of an instance",
        r"event Normal InstanceLaunched|.*(conditions\.|condition )vk-provider\.io/",
        "an event and a condition say which instance a pod got, at what price and why; a kubelet has nothing to choose",
        "plain.yaml",
        always=True,
    ),
    Known(
        "where an image came from",
        r"event Normal (Image(Fetched|PullProgress)|WaitingForImages): ",
        "an event says how many bytes of an image came from the instance's store, other instances and the registry, or "
        "that other pods pull it now; a kubelet has one place",
        "plain.yaml",
        always=True,
    ),
    Known(
        "the pod's address is known before its sandbox",
        r"status\.podIPs?: (SET|N) / -$",
        "an instance has the address of its pod from its launch on, so a pod that waits for a volume shows it already; "
        "a kubelet learns it from the sandbox",
        "early-address.yaml",
    ),
    Known(
        "images are fetched ahead",
        r"event Normal (Pulled|Pulling): \(never started\) .*\(only here\)$|"
        r"event Warning Failed: \(fetched ahead\) Failed to pull image .*\(only here\)$",
        "the images of all containers are pulled at once while volumes and init containers are on their way, so the "
        "events are there for a container that never starts; a kubelet pulls when it starts a container",
        "fetched-ahead.yaml",
    ),
    Known(
        "why a container does not start is said at once",
        r"lasting only here: (initC|ephemeralC|c)ontainer waiting "
        r"(CrashLoopBackOff|CreateContainerConfigError|ErrImageNeverPull|ImagePullBackOff|InvalidImageName)$|"
        r"lasting only kubelet: (initC|ephemeralC|c)ontainer (terminated .*, the last state there|"
        r"waiting ErrImagePull( for long)?, its back-off there)$|"
        r"status\.(initC|ephemeralC|c)ontainer\.state\.waiting\.(reason|message): .*\(of the pass before\)",
        "a kubelet shows `terminated` for up to 10 s more: its status takes the reason of a pass from the one before",
        "back-off.yaml",
    ),
    Known(
        "a terminal phase that another writer sets ends no running container",
        r"ended by a phase that another has set \(only kubelet\)$",
        "a kubelet puts it back, too, but for a pod that is synced before that: it ends",
        "phase-of-another.yaml",
    ),
    Known(
        "reason and message of another writer are put away",
        r"status\.(reason|message): - / \(of another\)$|lasting only kubelet: reason \(of another\)",
        "a kubelet puts them away, too, but for a pod that is synced before that: it takes them for its own about "
        "the phase and keeps them",
        "words-of-another.yaml",
    ),
    Known(
        "observedGeneration of a condition is put right",
        r"status\.conditions\..*\.observedGeneration: N / \(of another\)$",
        "a kubelet looks at status, reason and message of a condition only and leaves it until its next change",
        "generation-of-another.yaml",
    ),
    Known(
        "recursive read-only mounts are refused where the runtime has none",
        r"refused here: Pod was rejected: spec\.(initC|c)ontainers\[N\]\.volumeMounts\[N\]\.recursiveReadOnly=",
        "the pod fails with a reason that names the field; on a kubelet it waits for ever, its start fails",
        "recursive-read-only.yaml",
    ),
    Known(
        "image volumes are refused where the runtime has none",
        r"refused here: Pod was rejected: spec\.volumes\[N\]\.image is not supported",
        "the pod fails with a reason that names the field; on a kubelet it waits for ever, its start fails",
        "image-volume.yaml",
    ),
    Known(
        "storage that is attached is refused",
        r"refused here: Pod was rejected: spec\.volumes\[N\]\.(persistentVolumeClaim|ephemeral|csi) is not supported",
        "no instance attaches it; on a kubelet the pod waits for ever, its volume cannot be mounted",
        "claimed-volume.yaml",
    ),
    Known(
        "user namespaces are refused",
        r"refused here: Pod was rejected: spec\.hostUsers=false is not supported",
        "the pod fails with a reason that names the field; on a kubelet whose runtime has none it waits for ever",
        "user-namespace.yaml",
    ),
    Known(
        "a gRPC probe dials more often",
        r"(count of )?event Warning Unhealthy: (Liveness|Readiness|Startup) probe failed: timeout: failed to connect "
        r"service .*\(only kubelet\)$",
        "a refused dial is repeated within timeoutSeconds here at once, in Go's gRPC after about 1 s, so a server that "
        "opens meanwhile passes earlier",
        "grpc-dials.yaml",
    ),
    Known(
        "why a resize fails is said at once",
        r"status\.conditions\.PodResizeInProgress\.(reason|message): .* / -$|"
        r"lasting only here: condition PodResizeInProgress True Error$",
        "a kubelet records the event at once, too, and writes the condition with its next status",
        "resize-fails.yaml",
    ),
    Known(
        "a second deletion with a shorter grace counts at once",
        r"ending after a second deletion: slower kubelet$",
        "a kubelet means to (its pod worker cancels the sync), but SyncTerminatingPod of 1.37 does not heed the "
        "cancellation, so the first grace period is waited out",
        "delete-twice.yaml",
    ),
    Known(
        "a resize of a pod that has ended starts nothing",
        r"event Normal ResizeStarted: \(after the end\) .*\(only kubelet\)$",
        "a kubelet's allocation manager takes it over and records ResizeStarted, and nothing follows; here the pod's "
        "instance is gone",
        "resize-after-the-end.yaml",
    ),
    Known(
        "exec into a container that does not run",
        r"answer (exec|attach|cp)\.stderr: '.*error: Internal error occurred: una.* / '.*error: unable to upgrade",
        "the API server speaks SPDY to our Node, which does not declare ExtendWebSocketsToKubelet, and puts its own "
        "words before a refusal of the kubelet API",
        "no-exec.yaml",
    ),
)


def explain(difference: Difference, known: Iterable[Known] = KNOWN) -> Known | None:
    """The entry that a difference belongs to."""
    return next((entry for entry in known if entry.matches(difference)), None)


def unexplained(differences: Iterable[Difference], known: Sequence[Known] = KNOWN) -> list[Difference]:
    """Those that belong to none."""
    return [difference for difference in differences if explain(difference, known) is None]


def noteworthy(differences: Iterable[Difference], known: Sequence[Known] = KNOWN) -> list[Difference]:
    """Those that not every pod shows."""
    return [item for item in differences if not ((entry := explain(item, known)) and entry.always)]
