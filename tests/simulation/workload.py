"""The pods of a simulation: their manifests and how their containers behave, by template."""

from __future__ import annotations

import random

from tests.simulation.agents import Behaviour
from tests.simulation.liars import SERVICE_ACCOUNT
from tests.simulation.process import NODE
from vk_provider.jsontypes import Json

NAMESPACE = "default"
REFUSED = {"impossible": "NoFittingInstance", "misplaced": "NodeAffinity"}
"""Template -> reason of the pods that can never run."""
JOB_FINALIZER = "batch.kubernetes.io/job-tracking"
HELD = ("daemon",)
"""Templates of pods that stay Pending."""
_CPU = ("100m", "250m", "250m", "250m", "2")


def build_pod(template: str, number: int) -> Json:
    drawn = random.Random(f"{template} {number}")
    container: Json = {
        "name": "c",
        "image": "registry/image:1",
        "resources": {"requests": {"cpu": "64" if template == "impossible" else drawn.choice(_CPU)}},
    }
    spec: Json = {
        "nodeName": NODE,
        "containers": [container],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": drawn.choice((1, 5, 10, 30)),
        "tolerations": [{"operator": "Exists"}],
    }
    metadata: Json = {"name": f"{template}-{number}", "namespace": NAMESPACE, "labels": {"template": template}}
    match template:
        case "selector":
            spec["nodeSelector"] = {"type": "virtual-kubelet"}
        case "misplaced":
            spec["nodeSelector"] = {"disk": "none"}
        case "job" | "failing-job":
            spec["restartPolicy"] = "Never"
            metadata["ownerReferences"] = [_owner("Job")]
            metadata["finalizers"] = [JOB_FINALIZER]
        case "daemon":
            metadata["ownerReferences"] = [_owner("DaemonSet")]
        case "references":
            source = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
            spec["volumes"] = [{"name": "v", "configMap": {"name": "shared"}}, source]
            mounts = (("v", "/v"), ("token", "/t"))
            container["volumeMounts"] = [{"name": name, "mountPath": path} for name, path in mounts]
        case "hostile":
            spec["serviceAccountName"] = SERVICE_ACCOUNT
            metadata["labels"] = {"template": "server"}
        case "slow-stop":
            spec["terminationGracePeriodSeconds"] = 40
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _owner(kind: str) -> Json:
    uid = "11111111-1111-4111-a111-111111111111"
    return {"apiVersion": "apps/v1", "kind": kind, "name": "owner", "uid": uid, "controller": True}


def behave(pod: Json) -> Behaviour:
    """The same for every pod of one name."""
    metadata, spec = pod["metadata"], pod["spec"]
    drawn = random.Random(f"behaviour of {metadata['name']}")
    template = metadata["labels"]["template"]
    run_s = drawn.uniform(2.0, 90.0) if template in ("job", "failing-job") else None
    grace_s = float(spec.get("terminationGracePeriodSeconds", 30))
    stop_s = grace_s if template == "slow-stop" else drawn.uniform(0.05, min(5.0, grace_s))
    return Behaviour(drawn.uniform(0.1, 6.0), run_s, 1 if template == "failing-job" else 0, stop_s)
