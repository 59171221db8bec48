"""What a pass over the pod is to do, decided (Actions) and while it is being decided (Plan). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vk_provider.agent.worker.rules.observed import ObservedContainer

KillReason = Literal["", "liveness", "startup", "unknown"]


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop one container; `reason` picks the grace period, `message` is the Killing event."""

    container_id: str
    name: str
    message: str
    reason: KillReason = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Remove one container (RestartAllContainers); `running` ones are killed without grace first."""

    container_id: str
    name: str
    running: bool


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do, in this order: kill_pod | kill, reset; create_sandbox; start ephemeral, init, regular by index.

    initialized: the init containers in the sandbox are done, the last sidecar has started
    """

    kill_pod: bool = False
    initialized: bool = False
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    kill: tuple[Kill, ...] = ()
    reset: tuple[Reset, ...] = ()
    start_ephemeral: tuple[int, ...] = ()
    start_init: tuple[int, ...] = ()
    start_regular: tuple[int, ...] = ()

    @property
    def starts_something(self) -> bool:
        return bool(self.create_sandbox or self.start_ephemeral or self.start_init or self.start_regular)


@dataclass(slots=True)
class Plan:
    """Of `start_init`, each index counts once, in any order."""

    kill_pod: bool = False
    kill: dict[str, Kill] = field(default_factory=dict)
    start_init: list[int] = field(default_factory=list)
    start_regular: list[int] = field(default_factory=list)

    def restart_init(self, index: int, record: ObservedContainer, message: str, reason: KillReason = "") -> None:
        """Kill an init container, then start it again."""
        self.kill[record.id] = Kill(record.id, record.name, message, reason)
        self.start_init.append(index)

    def end_pod(self) -> None:
        self.kill_pod = True
        self.start_init = []
