"""Features: where a pod may be, and what the scheduler, admission and the Node make of it."""

from __future__ import annotations

from tests.differential.grammar.draft import Draft
from tests.differential.grammar.registry import feature
from tests.differential.taints import KEY
from vk_provider.jsontypes import Json

MERGE = "application/merge-patch+json"
OS, ABSENT = "kubernetes.io/os", "example.com/absent"

MET: tuple[Json, ...] = (
    {"matchExpressions": [{"key": OS, "operator": "In", "values": ["windows", "linux"]}]},
    {"matchExpressions": [{"key": OS, "operator": "NotIn", "values": ["windows"]}]},
    {"matchExpressions": [{"key": OS, "operator": "Exists"}, {"key": ABSENT, "operator": "DoesNotExist"}]},
    {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["elsewhere"]}]},
)
UNMET: tuple[Json, ...] = (
    {"matchExpressions": [{"key": OS, "operator": "In", "values": ["windows"]}]},
    {"matchExpressions": [{"key": OS, "operator": "NotIn", "values": ["linux"]}]},
    {"matchExpressions": [{"key": OS, "operator": "DoesNotExist"}]},
    {"matchExpressions": [{"key": OS, "operator": "Exists"}, {"key": ABSENT, "operator": "Exists"}]},
    {"matchExpressions": [{"key": ABSENT, "operator": "Gt", "values": ["1"]}]},
    {"matchExpressions": [{"key": OS, "operator": "Lt", "values": ["1"]}]},
    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["elsewhere"]}]},
)
TOLERATIONS: tuple[list[Json], ...] = (
    [],
    [{"key": KEY, "operator": "Exists", "effect": "NoSchedule"}],
    [{"key": KEY, "operator": "Equal", "value": "no", "effect": "NoExecute"}],
    [{"key": "example.com/other", "operator": "Exists"}],
    [{"key": KEY, "operator": "Equal", "value": "yes", "effect": "NoExecute"}],
    [{"key": KEY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}],
)


def _affinity(draft: Draft) -> Json:
    affinity: Json = draft.spec.setdefault("affinity", {})
    return affinity


def _require(draft: Draft, *terms: Json) -> None:
    required = {"nodeSelectorTerms": list(terms)}
    _affinity(draft)["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": required}


@feature
def node_affinity(draft: Draft) -> None:
    terms = [draft.random.choice(MET), *draft.random.sample(UNMET, draft.random.choice((0, 1)))]
    draft.random.shuffle(terms)
    _require(draft, *terms)


@feature
def node_selector(draft: Draft) -> None:
    """Seen by the scheduler, or by the node alone."""
    draft.spec["nodeSelector"] = {OS: draft.random.choice(("linux", "windows"))}
    if draft.random.random() < 0.5:
        draft.spec["nodeName"] = ""
    draft.last(10)


@feature
def preferred_affinity(draft: Draft) -> None:
    _affinity(draft)["nodeAffinity"] = {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": draft.random.choice(UNMET)}]
    }
    term = {"labelSelector": {"matchLabels": {"app": "other"}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 5, "podAffinityTerm": term}]
    _affinity(draft)["podAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": preferred}


@feature
def bound_against_affinity(draft: Draft) -> None:
    """By somebody who does not ask the scheduler: the node itself looks."""
    draft.spec["nodeName"] = ""
    terms = draft.random.sample(UNMET, draft.random.choice((1, 2)))
    _require(draft, *terms, *draft.random.sample(MET, draft.random.choice((0, 0, 1))))
    draft.last(10)


@feature
def bound_to_a_tainted_node(draft: Draft) -> None:
    """What is not tolerated is deleted by the taint eviction controller, too, so a finalizer keeps it."""
    draft.bound = True
    draft.spec["tolerations"] = draft.random.choice(TOLERATIONS)
    draft.pod["metadata"]["finalizers"] = ["diff.example.com/hold"]
    draft.act(6, "patch", type=MERGE, body={"metadata": {"finalizers": None}})


@feature
def label_of_a_system(draft: Draft) -> None:
    draft.pod["metadata"]["labels"][OS] = draft.random.choice(("windows", "linux"))
    draft.last(10)


@feature
def operating_system(draft: Draft) -> None:
    draft.spec["os"] = {"name": draft.random.choice(("linux", "linux", "windows"))}


@feature
def scheduling_gates(draft: Draft) -> None:
    draft.spec["schedulingGates"] = [{"name": "example.com/wait"}]
    if draft.random.random() < 0.8:
        draft.act(1, "patch", type=MERGE, body={"spec": {"schedulingGates": None}})
        draft.last(14)


@feature
def spread(draft: Draft) -> None:
    draft.spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "none"}},
        }
    ]


@feature
def priority_class(draft: Draft) -> None:
    draft.spec["priorityClassName"] = draft.random.choice(("system-cluster-critical", "system-node-critical", "absent"))


@feature
def runtime_class(draft: Draft) -> None:
    """With the overhead of its pods, or without."""
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
    heavy = draft.random.random() < 0.5
    name = "heavy" if heavy else "plain"
    overhead = {"overhead": {"podFixed": {"cpu": "10m", "memory": "8Mi"}}} if heavy else {}
    draft.objects.append({**kind, "metadata": {"name": name}, **overhead})
    draft.spec["runtimeClassName"] = name if draft.random.random() < 0.8 else "absent"
    if heavy:
        draft.main["resources"] = {"limits": {"cpu": "50m", "memory": "32Mi"}}


@feature
def host_port(draft: Draft) -> None:
    """Another one than of any pod that runs beside this."""
    port = {"containerPort": 8080, "hostPort": draft.random.randint(20_000, 29_000)}
    if draft.random.random() < 0.4:
        port["protocol"] = "UDP"
    if draft.random.random() < 0.3:
        port["hostIP"] = "127.0.0.1"
    draft.main.setdefault("ports", []).append({"name": "out", **port})


@feature
def service_account(draft: Draft) -> None:
    draft.spec["serviceAccountName"] = draft.random.choice(("default", "default", "absent"))
