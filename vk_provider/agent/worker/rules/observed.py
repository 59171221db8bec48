"""What the runtime says about the pod: sandboxes and containers, newest first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
CONTAINER_NAME = "io.kubernetes.container.name"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


CONTAINER_STATES = (State.CREATED, State.RUNNING, State.EXITED, State.UNKNOWN)
"""By the value of CRI's ContainerState."""


@dataclass(frozen=True, slots=True)
class RuntimeResources:
    """Resources that a container has, as quantities; None is unknown."""

    cpu_request: str | None = None
    cpu_limit: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """One container of the runtime. Times are nanoseconds since the epoch, 0 when they do not apply.

    resources: None when the runtime does not report them
    """

    id: str
    name: str
    sandbox_id: str
    state: State
    created_at_ns: int = 0
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_ref: str = ""
    hash: str = ""
    restart_count: int = 0
    log_path: str = ""
    user: dict[str, Any] | None = None
    resources: RuntimeResources | None = None


@dataclass(frozen=True, slots=True)
class ObservedSandbox:
    """One sandbox of the runtime. `ip` is "" for host network and when CNI gave none, `additional_ips` those of the
    other family; `has_network` is False when the runtime reports no network status at all."""

    id: str
    attempt: int
    ready: bool
    created_at_ns: int = 0
    ip: str = ""
    has_network: bool = True
    host_network: bool = False
    additional_ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """The pod as the runtime sees it; both tuples are ordered newest first."""

    sandboxes: tuple[ObservedSandbox, ...] = ()
    containers: tuple[ObservedContainer, ...] = ()

    @property
    def active_sandbox(self) -> ObservedSandbox | None:
        """The newest sandbox if it is ready."""
        newest = self.sandboxes[0] if self.sandboxes else None
        return newest if newest is not None and newest.ready else None

    def history(self, name: str) -> tuple[ObservedContainer, ...]:
        return tuple(c for c in self.containers if c.name == name)

    def newest(self, name: str) -> ObservedContainer | None:
        return next((c for c in self.containers if c.name == name), None)

    def active(self, name: str) -> ObservedContainer | None:
        """The newest container of that name in the active sandbox."""
        sandbox = self.active_sandbox
        if sandbox is None:
            return None
        return next((c for c in self.containers if c.name == name and c.sandbox_id == sandbox.id), None)

    def newest_exited(self, name: str) -> ObservedContainer | None:
        return next((c for c in self.containers if c.name == name and c.state is State.EXITED), None)

    def running(self) -> tuple[ObservedContainer, ...]:
        return tuple(c for c in self.containers if c.state in (State.RUNNING, State.UNKNOWN))

    def without(self, container_ids: Iterable[str]) -> Observation:
        """The same without the given containers (those whose start is not finished yet)."""
        hidden = frozenset(container_ids)
        if not hidden:
            return self
        return replace(self, containers=tuple(c for c in self.containers if c.id not in hidden))


def order(sandboxes: Iterable[ObservedSandbox], containers: Iterable[ObservedContainer]) -> Observation:
    return Observation(
        tuple(sorted(sandboxes, key=lambda s: (s.created_at_ns, s.attempt), reverse=True)),
        tuple(sorted(containers, key=lambda c: c.created_at_ns, reverse=True)),
    )
