"""One case: what is created, and what is done to it when. Written and read as a Kubernetes manifest. Pure.

The annotation `diff/actions` of the pod holds JSON: {"window": seconds, "actions": [[seconds, verb, arguments], ...]};
seconds count from the start of the pod's first container. With "bound": true the pod comes to its node without the
scheduler and with its own tolerations only (every Node of the tester has a taint, taints.TAINT).
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vk_provider.jsontypes import Json

ANNOTATION = "diff/actions"
FEATURES = "diff/features"
WINDOW_S = 8.0
REGISTRY = "REGISTRY"
"""Stands for the cluster's registry in images of a case."""


@dataclass(frozen=True, slots=True)
class Action:
    """`verb` (see actions.py) with its arguments, `at` seconds after the start of the pod's first container."""

    at: float
    verb: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class Case:
    """A pod, the objects it refers to (created before it, in its namespace), the actions and how long it is watched.

    bound: to its node from the beginning, with no toleration but its own
    """

    name: str
    pod: Json
    objects: tuple[Json, ...] = ()
    actions: tuple[Action, ...] = ()
    window: float = WINDOW_S
    features: tuple[str, ...] = ()
    bound: bool = False

    def to_yaml(self) -> str:
        """The manifests; `parse_case` reads them back."""
        pod = copy.deepcopy(self.pod)
        annotations = pod.setdefault("metadata", {}).setdefault("annotations", {})
        actions = [[action.at, action.verb, action.arguments] for action in self.actions]
        plan = {"window": self.window, "actions": actions, **({"bound": True} if self.bound else {})}
        annotations[ANNOTATION] = json.dumps(plan)
        if self.features:
            annotations[FEATURES] = " ".join(self.features)
        documents = [*self.objects, pod]
        return str(yaml.safe_dump_all(documents, sort_keys=False, width=10000, default_flow_style=None))


def parse_case(name: str, text: str) -> Case:
    """The case in a manifest: exactly one Pod, any other namespaced objects. Raises ValueError."""
    try:
        documents = [item for item in yaml.safe_load_all(text) if item]
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is no YAML: {error}") from None
    pods = [item for item in documents if isinstance(item, dict) and item.get("kind") == "Pod"]
    if len(pods) != 1:
        raise ValueError(f"{name} has {len(pods)} pods, not one")
    pod = copy.deepcopy(pods[0])
    annotations = pod.get("metadata", {}).get("annotations") or {}
    plan = _parse_plan(name, annotations.pop(ANNOTATION, "{}"))
    features = tuple(annotations.pop(FEATURES, "").split())
    if not annotations:
        pod.get("metadata", {}).pop("annotations", None)
    objects = tuple(item for item in documents if item is not pods[0])
    actions = tuple(sorted((_parse_action(name, item) for item in plan.get("actions", [])), key=lambda item: item.at))
    window, bound = float(plan.get("window", WINDOW_S)), bool(plan.get("bound"))
    return Case(name, pod, objects, actions, window, features, bound)


def _parse_plan(name: str, text: str) -> Json:
    try:
        plan: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: {ANNOTATION} is no JSON: {error}") from None
    if not isinstance(plan, dict):
        raise ValueError(f"{name}: {ANNOTATION} is no JSON object")
    return plan


def _parse_action(name: str, item: Any) -> Action:
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[0], int | float):
        raise ValueError(f"{name}: an action is [seconds, verb, arguments], not {item!r}")
    return Action(float(item[0]), str(item[1]), dict(item[2]) if len(item) > 2 and item[2] else {})


def read_cases(path: Path) -> list[Case]:
    """The case of a file, or those of all manifests of a directory, by name. Raises ValueError."""
    files = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path} holds no manifest (*.yaml)")
    return [parse_case(file.stem, file.read_text()) for file in files]


IMAGES = {
    "busybox": "e2e-test-images/busybox:1.37.0-2",
    "alpine": "busybox:latest",
    "agnhost": "e2e-test-images/agnhost:2.66.1",
    "nginx": "e2e-test-images/nginx:1.27.0-2",
    "nonroot": "e2e-test-images/nonroot:1.5",
    "nonewprivs": "e2e-test-images/nonewprivs:1.4",
    "pause": "pause:3.10.2",
}
"""Last word of an image's repository -> the image that stands in for it."""


def stand_in(image: str, registry: str) -> str:
    """The image of `registry` in the place of one that a case names: by the last word of its repository; what no image
    stands for stays missing."""
    if image.startswith(f"{REGISTRY}/"):
        return f"{registry}/{image.removeprefix(f'{REGISTRY}/')}"
    host, slash, path = image.partition("/")
    if not slash or not any(mark in host for mark in ".:"):
        host, path = "", image
    name = path.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0]
    if name in IMAGES:
        return f"{registry}/{IMAGES[name]}"
    return f"{registry}/{path}" if host and ":" in host else image


def localise(case: Case, registry: str) -> Case:
    """The case with every image of it in `registry`, also those that actions patch in."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: stand_in(item, registry) if key == "image" and isinstance(item, str) and item else walk(item)
                for key, item in value.items()
            }
        return [walk(item) for item in value] if isinstance(value, list) else value

    actions = tuple(replace(action, arguments=walk(action.arguments)) for action in case.actions)
    return replace(case, pod=walk(case.pod), actions=actions)
