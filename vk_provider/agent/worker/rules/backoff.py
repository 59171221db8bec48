"""Back-off per key (a container's definition, an image): pure values, time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from vk_provider.podmodel.restart import RestartBackoff


@dataclass(slots=True)
class BackoffTable:
    """First failure: no wait; then 10 s, doubled up to 300 s; forgotten after a quiet time of 600 s."""

    _entries: dict[str, RestartBackoff] = field(default_factory=dict)

    def remaining_s(self, key: str, event_at_s: float, now_s: float) -> float:
        """Seconds to wait still, counted from the event (a container's finish, a failed pull); 0 when due."""
        return self._entries.get(key, RestartBackoff()).remaining_s(event_at_s, now_s)

    def remaining_since_update_s(self, key: str, now_s: float) -> float:
        """The same, counted from the last `next`."""
        entry = self._entries.get(key, RestartBackoff())
        return entry.remaining_s(entry.updated_at, now_s)

    def delay_s(self, key: str) -> float:
        return self._entries.get(key, RestartBackoff()).delay_s

    def next(self, key: str, event_at_s: float, now_s: float) -> None:
        """Count one more failure."""
        self._entries[key] = self._entries.get(key, RestartBackoff()).next(event_at_s, now_s)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)

    def to_document(self) -> dict[str, list[float]]:
        return {key: [entry.delay_s, entry.updated_at] for key, entry in self._entries.items()}

    def load_document(self, document: dict[str, list[float]]) -> None:
        self._entries = {key: RestartBackoff(values[0], values[1]) for key, values in document.items()}
