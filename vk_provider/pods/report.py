"""What is known of a pod's run, from its agent or by the provider. A part of record.PodRecord."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from vk_provider.jsontypes import Json, to_text


@dataclass(slots=True, eq=False)
class Report:
    """What is known of the pod's run.

    status:       the newest PodStatus: from the agent, or the provider status
    finished:     nothing of the pod runs any more
    concluded:    `status` is a terminal provider status: statuses from the agent are ignored
    sampled:      the newest sample, as JSON: it is replaced more often than it is asked for
    silent_since: since when the agent of a pod that may run has sent nothing (time.monotonic()); 0.0 while it is heard
    not_ready:    the Ready condition that replaces the agent's, because it is silent for too long
    """

    status: Json | None = None
    from_agent: bool = False
    finished: bool = False
    concluded: bool = False
    sampled: bytes = b""
    silent_since: float = 0.0
    not_ready: Json | None = None

    def take(self, status: Json, *, finished: bool) -> None:
        """The agent's."""
        self.status, self.from_agent, self.finished = status, True, finished

    def provide(self, status: Json | None) -> None:
        """The provider's own, while there is no agent to write one."""
        self.status = status

    def conclude(self, status: Json) -> None:
        """The provider's last word."""
        self.status, self.finished, self.concluded = status, True, True

    def sample(self, stats: Json) -> None:
        self.sampled = to_text(stats)

    @property
    def stats(self) -> Json | None:
        """The newest sample, decoded anew."""
        if not self.sampled:
            return None
        stats: Json = orjson.loads(self.sampled)
        return stats

    def fall_silent(self, now: float) -> None:
        self.silent_since = self.silent_since or now

    def doubt(self, condition: Json) -> None:
        self.not_ready = condition

    def hear(self) -> bool:
        """The agent has said something. Returns whether its Ready condition counts again."""
        self.silent_since = 0.0
        doubted, self.not_ready = self.not_ready is not None, None
        return doubted

    def start_over(self) -> None:
        """Another instance, which nobody has heard of yet."""
        self.silent_since, self.not_ready = 0.0, None
