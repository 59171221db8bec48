"""A pod in the making: what features write to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.differential.case import REGISTRY, WINDOW_S, Action, Case
from vk_provider.jsontypes import Json

BUSYBOX = f"{REGISTRY}/e2e-test-images/busybox:1.37.0-2"
OTHER = f"{REGISTRY}/busybox:latest"
AGNHOST = f"{REGISTRY}/e2e-test-images/agnhost:2.66.1"
NONROOT = f"{REGISTRY}/e2e-test-images/nonroot:1.5"
MISSING = f"{REGISTRY}/no/such:1"
IMAGES = (BUSYBOX, OTHER, AGNHOST, NONROOT)

SLEEP = ["sleep", "3600"]


def shell(script: str) -> list[str]:
    """A command that runs a script."""
    return ["sh", "-c", script]


WAIT = "while :; do sleep 0.1; done"
"""The end of a script that lives on and whose shell can answer a signal at once."""


@dataclass
class Draft:
    """A pod with one container `main`; `random` decides what features leave open."""

    random: random.Random
    pod: Json = field(default_factory=dict)
    objects: list[Json] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    window: float = WINDOW_S
    bound: bool = False

    def __post_init__(self) -> None:
        main = {"name": "main", "image": BUSYBOX, "command": SLEEP}
        self.pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x", "labels": {"app": "x"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [main]},
        }

    @property
    def spec(self) -> Json:
        """The pod's spec."""
        spec: Json = self.pod["spec"]
        return spec

    @property
    def main(self) -> Json:
        """The first container."""
        main: Json = self.spec["containers"][0]
        return main

    def annotate(self, key: str, value: str) -> None:
        """An annotation of the pod."""
        self.pod["metadata"].setdefault("annotations", {})[key] = value

    def security(self, **fields: Any) -> None:
        """Of the pod."""
        self.spec.setdefault("securityContext", {}).update(fields)

    def main_security(self, **fields: Any) -> None:
        """Of the container `main`."""
        self.main.setdefault("securityContext", {}).update(fields)

    def add_container(self, prefix: str, command: list[str], **fields: Any) -> Json:
        """One more container, with a name of its own."""
        return self._add("containers", prefix, command, fields)

    def add_init(self, prefix: str, command: list[str], **fields: Any) -> Json:
        """One more init container."""
        return self._add("initContainers", prefix, command, fields)

    def _add(self, kind: str, prefix: str, command: list[str], fields: Json) -> Json:
        present = self.spec.setdefault(kind, [])
        container = {"name": f"{prefix}{len(present)}", "image": BUSYBOX, "command": command, **fields}
        present.append(container)
        return container

    def volume(self, name: str, **source: Any) -> None:
        """A volume, once."""
        volumes = self.spec.setdefault("volumes", [])
        if not any(volume["name"] == name for volume in volumes):
            volumes.append({"name": name, **source})

    def mount(self, volume: str, path: str, container: Json | None = None, **fields: Any) -> None:
        """Mount a volume into `main` or another container."""
        target = self.main if container is None else container
        target.setdefault("volumeMounts", []).append({"name": volume, "mountPath": path, **fields})

    def env(self, *entries: Json, container: Json | None = None) -> None:
        """Variables of `main` or another container."""
        target = self.main if container is None else container
        target.setdefault("env", []).extend(entries)

    def object(self, kind: str, name: str, **fields: Any) -> None:
        """An object the pod refers to, once."""
        if not any((item["kind"], item["metadata"]["name"]) == (kind, name) for item in self.objects):
            self.objects.append({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields})

    def act(self, at: float, verb: str, **arguments: Any) -> None:
        """Something that is done to the pod."""
        self.actions.append(Action(at, verb, arguments))
        self.last(at + 3)

    def exec(self, at: float, *words: str, container: str = "main") -> None:
        """A command in a container, whose answer is compared."""
        self.act(at, "exec", cmd=list(words), container=container)

    def last(self, seconds: float) -> None:
        """Watch at least so long."""
        self.window = max(self.window, seconds)

    def finish(self, name: str, features: tuple[str, ...]) -> Case:
        """The case."""
        actions = tuple(sorted(self.actions, key=lambda action: action.at))
        return Case(name, self.pod, tuple(self.objects), actions, self.window, features, self.bound)
