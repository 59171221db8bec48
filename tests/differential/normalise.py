"""Takes away from two histories what must differ between them. Every rule says why. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.differential.containers import STATUS_LISTS
from vk_provider.jsontypes import Json


@dataclass(frozen=True, slots=True)
class TextRule:
    """Replaces what matches `pattern` in every text."""

    name: str
    reason: str
    pattern: re.Pattern[str]
    replacement: str


def _text(name: str, pattern: str, replacement: str, reason: str) -> TextRule:
    return TextRule(name, reason, re.compile(pattern), replacement)


TEXT_RULES = (
    _text(
        "container IDs",
        r"containerd://[0-9a-f]{64}",
        "containerd://ID",
        "the runtime draws them at random",
    ),
    _text("digests", r"sha256:[0-9a-f]{64}", "sha256:ID", "compared as image references, not as contents"),
    _text("bare IDs", r"\b[0-9a-f]{64}\b", "ID", "containers and sandboxes in messages of the runtime"),
    _text("times", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d))?( UTC)?", "TIME", "two clocks"),
    _text("log times", r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "TIME", "two clocks"),
    _text("klog's process", r"\b([IWEF]\d{4} TIME) +\d+ (\w+\.go:\d+\])", r"\1 PID \2", "kubectl's process ID"),
    _text(
        "kubectl's terminal at the end",
        r"E\d{4} TIME PID \w+\.go:\d+\] \"Encoding terminal size failed\"[^\n]*\n",
        "",
        "whether kubectl still tries to tell the size of its terminal once the stream is closed",
    ),
    _text(
        "kubectl after a refused connection",
        r"(error forwarding port [^\n]*\n)error: lost connection to pod\n?",
        r"\1",
        "whether kubectl says so before it is stopped: the server closes the stream, and kubectl the tunnel, by then",
    ),
    _text(
        "events that are combined",
        r"^\(combined from similar events\): [\s\S]*",
        "(combined from similar events)",
        "after ten that differ, an event has the words of the last one only, which a moment decides",
    ),
    _text(
        "durations of pulls",
        r"in \d[\w.µ]*s( \(\d[\w.µ]*s including waiting\))?",
        "in DURATION",
        "measured",
    ),
    _text(
        "lengths of back-offs",
        r"back-off \d[\dms]*s restarting",
        "back-off DURATION restarting",
        "a kubelet restarts with a sync after the back-off, so a loop's next step comes up to 10 s later there",
    ),
    _text("duration of a wait", r"after \d+\.\d+s", "after DURATION", "measured"),
    _text("memory in use", r"below current usage \(\d+\)", "below current usage (USED)", "measured"),
    _text("source ports", r"((?:\d+\.){3}\d+|POD_IP|HOST_IP|localhost):\d{5}->", r"\1:PORT->", "the kernel chooses"),
    _text("pointers", r"0xc[0-9a-f]{6,}", "POINTER", "addresses of memory of a Go program"),
    _text(
        "volume of the token", r"kube-api-access-[a-z0-9]{5}", "kube-api-access-NAME", "named at random by admission"
    ),
    _text("directory of an atomic writer", r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+", "..STAMP", "named by time"),
    _text("runc's own numbers", r"/proc/self/fd/\d+|/proc/\d+/", "/proc/N/", "process IDs and descriptors"),
    _text("network namespaces", r"/netns/cni-[0-9a-f-]{36}", "/netns/cni-ID", "named at random"),
    _text("server of a look-up", r"lookup (\S+) on [\d.:]+:", r"lookup \1:", "each Node has a resolver of its own"),
    _text("exec socket", r"/(tmp|run)/\S*runc-process\d+", "/runc-process", "a temporary file"),
    _text("request of the streaming server", r"/(exec|attach|portforward)/\w{8}\b", r"/\1/TOKEN", "drawn at random"),
    _text(
        "version of the resource",
        r"resourceVersion: ?\"?\d+\"?",
        "resourceVersion",
        "one counter for the whole cluster",
    ),
    _text(
        "generation in ports of messages",
        r"(dial tcp (?:\S+:\d+->)?)\[::1\]:(\d+)",
        r"\g<1>LOOPBACK:\2",
        "which address family localhost is first",
    ),
)


KUBELET_RULES = (
    _text(
        "what a name server says",
        r"lookup (\S+?)(?: on [\d.:]+)?: read udp \S+: i/o timeout",
        r"lookup \1: no such host",
        "the kubelet's namespace reaches no name server, an instance does and is told that there is no such host",
    ),
)
"""Of the kubelet's side alone: what its surroundings lack."""
KUBELET = "kubelet"
"""The Node of the real one."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Drops or replaces the field at a path of a pod's status; `*` stands for any list index or key."""

    name: str
    reason: str
    path: str
    becomes: Callable[[Any], Any]


def _presence(value: Any) -> Any:
    return "SET" if value else value


def _without_tag(image: Any) -> Any:
    return re.sub(r":[\w.-]+$", "", image) if isinstance(image, str) else image


FIELD_RULES = (
    FieldRule("start of the pod", "two clocks", "startTime", _presence),
    FieldRule("transitions", "two clocks", "conditions.*.lastTransitionTime", _presence),
    FieldRule(
        "probes of conditions", "never set by a kubelet of this version", "conditions.*.lastProbeTime", _presence
    ),
    FieldRule("addresses", "every pod has its own; which one, the network says", "podIP", _presence),
    FieldRule("addresses in the list", "as podIP", "podIPs", lambda value: len(value or ())),
    FieldRule("address of the host", "of the instance or of the machine", "hostIP", _presence),
    FieldRule("addresses of the host", "as hostIP", "hostIPs", lambda value: len(value or ())),
    *(
        FieldRule(
            "image IDs",
            "the kubelet's machine keeps what other pods pulled, in the form it came",
            f"{kind}.*.imageID",
            _presence,
        )
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    ),
    *(
        FieldRule(
            "tags",
            "of two tags of one image the runtime names the one that it knows first",
            f"{kind}.*.image",
            _without_tag,
        )
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    ),
    *(
        FieldRule("times of containers", "two clocks", f"{kind}.*.{state}.{which}", _presence)
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for state, which in (
            ("state.running", "startedAt"),
            ("state.terminated", "startedAt"),
            ("state.terminated", "finishedAt"),
            ("lastState.terminated", "startedAt"),
            ("lastState.terminated", "finishedAt"),
        )
    ),
)

UNLIMITED = "9007199254740988Ki"
"""What cgroup v1 says of a memory limit that nobody has set. A kubelet repeats it for a pod; where the machine has
cgroup v2, it repeats what the status said before, the sum of the limits that there are."""


@dataclass(frozen=True, slots=True)
class Own:
    """What is a twin's own: replaced by a word in every text."""

    namespace: str
    node: str
    uid: str
    addresses: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def own_of(namespace: str, node: str, versions: list[Json]) -> Own:
    """From the versions of the pod. A pod that never had an instance names our Node's address, where the registry of
    the tests is: that one is nobody's own."""
    uid = next((str(pod["metadata"]["uid"]) for pod in versions if pod.get("metadata", {}).get("uid")), "")
    addresses, hosts, hosts_of_images = set[str](), set[str](), set[str]()
    for pod in versions:
        status = pod.get("status", {})
        hosts.update(item["ip"] for item in status.get("hostIPs", ()) if item.get("ip"))
        addresses.update(item["ip"] for item in status.get("podIPs", ()) if item.get("ip"))
        hosts_of_images.update(
            each["image"].partition(":")[0] for key in STATUS_LISTS for each in status.get(key) or () if "image" in each
        )
    hosts -= hosts_of_images
    return Own(namespace, node, uid, tuple(sorted(addresses - hosts)), tuple(sorted(hosts)))


def normalise_text(text: str, own: Own) -> str:
    """A message, an output or a log without what is the twin's own or the moment's."""
    for given, word in (
        (own.uid, "UID"),
        *((address, "POD_IP") for address in own.addresses),
        *((address, "HOST_IP") for address in own.hosts),
    ):
        if given:
            text = re.sub(rf"(?<![A-Za-z0-9.]){re.escape(given)}(?![A-Za-z0-9])", word, text)
    if own.namespace:  # a label of a domain name, too
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(own.namespace)}(?![A-Za-z0-9])", "NAMESPACE", text)
    # Not in /var/lib/kubelet, which both have: a Node may have that name.
    text = re.sub(rf"(?<![\w.-])(?<!/lib/){re.escape(own.node)}(?![\w-])", "NODE", text) if own.node else text
    for rule in (*(KUBELET_RULES if own.node == KUBELET else ()), *TEXT_RULES):
        text = rule.pattern.sub(rule.replacement, text)
    return text


def normalise(value: Any, own: Own) -> Any:
    """Every text of a JSON value."""
    if isinstance(value, str):
        return normalise_text(value, own)
    if isinstance(value, dict):
        return {key: normalise(item, own) for key, item in value.items()}
    return [normalise(item, own) for item in value] if isinstance(value, list) else value


def normalise_status(pod: Json, own: Own) -> Json:
    """A pod's status (with what of its metadata a node writes) as it can be compared."""
    status: Json = dict(pod.get("status", {}))
    for rule in FIELD_RULES:
        status = _apply(status, rule.path.split("."), rule.becomes)
    status = _by_name(normalise(status, own))
    if pod.get("metadata", {}).get("deletionTimestamp"):
        status["(being deleted)"] = True
    return status


def _apply(value: Any, path: list[str], becomes: Callable[[Any], Any]) -> Any:
    first, *rest = path
    if first == "*":
        return [_apply(item, rest, becomes) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict) or first not in value:
        return value
    return {**value, first: _apply(value[first], rest, becomes) if rest else becomes(value[first])}


def _by_name(status: Json) -> Json:
    """Lists become mappings, so that a difference names what it is in; the order of conditions is the API's."""
    named: Json = dict(status)
    for key, label in (
        ("conditions", "type"),
        ("containerStatuses", "name"),
        ("initContainerStatuses", "name"),
        ("ephemeralContainerStatuses", "name"),
    ):
        if isinstance(status.get(key), list):
            named[key] = {str(item.get(label)): {k: v for k, v in item.items() if k != label} for item in status[key]}
    return named


def before_back_off(status: Json) -> Json:
    """The status with every container that cannot be started as it was just before that was said.

    A kubelet writes `terminated` (or ErrImagePull) first, and why the next start fails with its next sync, up to 10 s
    later: the reason comes from the reasonCache, which SyncPod fills after the status of that pass was generated.
    """
    changed = dict(status)
    first = NOT_STARTED[1 if status.get("initContainerStatuses") else 0]
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        if key in status:
            changed[key] = {name: _before_back_off(item, first) for name, item in status[key].items()}
    return changed


SAID_LATER = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "ErrImagePull",
    "ImagePullBackOff",
    "RunContainerError",
)
PULLING = ("ErrImagePull", "ImagePullBackOff")
NOT_STARTED = ("ContainerCreating", "PodInitializing")
"""Of a container that was never there, in a pod without and with init containers."""


def _before_back_off(container: Json, first: str) -> Json:
    state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
    reason = state.get("waiting", {}).get("reason")
    if reason in SAID_LATER and last:
        return {**container, "state": {"terminated": last}, "lastState": {}}
    if reason in SAID_LATER and not container.get("containerID") and reason not in PULLING:
        return {**container, "state": {"waiting": {"reason": first}}}
    if reason in PULLING:
        return {**container, "state": {"waiting": {"reason": PULLING[0]}}}
    return {**container, "lastState": {}} if "terminated" in state else container


def without_unlimited(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Two values of `resources` without the limits of which one says that nobody has set them."""
    unlimited = {name for each in (ours, theirs) for name, amount in _limits(each).items() if amount == UNLIMITED}
    return (_without_limits(ours, unlimited), _without_limits(theirs, unlimited)) if unlimited else (ours, theirs)


def _limits(resources: Any) -> Json:
    return (resources or {}).get("limits") or {}


def _without_limits(resources: Any, names: set[str]) -> Any:
    left = {name: amount for name, amount in _limits(resources).items() if name not in names}
    others = {key: value for key, value in (resources or {}).items() if key != "limits"}
    return {**others, **({"limits": left} if left else {})} or None
