"""A history of a real kubelet as a file, so that a case can be compared later without one. Pure.

`make differential CASES=dir RECORD=dir` writes NAME.yaml and NAME.json of every case that both nodes took.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.differential.case import REGISTRY, Case, parse_case
from tests.differential.history import History, SeenEvent, Version
from vk_provider.jsontypes import Json

METADATA = ("uid", "generation", "deletionTimestamp")
EVENT = ("type", "reason", "message", "count", "involvedObject")


def dump_history(history: History, registry: str) -> Json:
    """Everything that `compare` reads, times in seconds from the pod's first version, the registry's name left out."""
    origin = history.versions[0].at if history.versions else 0.0

    def since(moment: float | None) -> float | None:
        return None if moment is None else round(moment - origin, 3)

    document = {
        "namespace": history.namespace,
        "node": history.node,
        "versions": [[since(item.at), _version(item.pod)] for item in history.versions],
        "events": [[since(item.first), since(item.last), _event(item.event)] for item in history.events.values()],
        "answers": history.answers,
        "snaps": {name: since(moment) for name, moment in history.snaps.items()},
        "deleted": since(history.deleted),
        "gone": since(history.gone),
        "forced": since(history.forced),
        "asked": {name: since(moment) for name, moment in history.asked.items()},
        "closed": since(history.closed),
    }
    replaced: Json = json.loads(json.dumps(document).replace(registry, REGISTRY))
    return replaced


def _version(pod: Json) -> Json:
    metadata = {key: pod["metadata"][key] for key in METADATA if key in pod["metadata"]}
    return {"metadata": metadata, "status": pod.get("status", {})}


def _event(event: Json) -> Json:
    return {key: event[key] for key in EVENT if event.get(key)}


def load_history(document: Json, registry: str) -> History:
    """The reverse of `dump_history`, for the registry of another cluster."""
    document = json.loads(json.dumps(document).replace(REGISTRY, registry))
    history = History(document["namespace"], document["node"])
    history.versions = [Version(at, pod) for at, pod in document["versions"]]
    history.created = history.versions[0].pod if history.versions else {}
    history.events = {
        str(number): SeenEvent(first, last, event) for number, (first, last, event) in enumerate(document["events"])
    }
    history.answers, history.snaps = document["answers"], document["snaps"]
    history.deleted, history.gone, history.closed = document["deleted"], document["gone"], document["closed"]
    history.forced, history.asked = document.get("forced"), document.get("asked", {})
    return history


def write_recording(directory: Path, case: Case, history: History, registry: str) -> None:
    """Both files; a manifest that is there keeps its comments."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = directory / f"{case.name}.yaml"
    if not manifest.exists():
        manifest.write_text(case.to_yaml())
    text = json.dumps(dump_history(history, registry), indent=0, sort_keys=True)
    (directory / f"{case.name}.json").write_text(text + "\n")


def read_recording(file: Path, registry: str) -> tuple[Case, History]:
    """Of NAME.json."""
    case = parse_case(file.stem, file.with_suffix(".yaml").read_text())
    return case, load_history(json.loads(file.read_text()), registry)
