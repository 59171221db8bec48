"""What listings of the simulated cloud show: every instance as it is, or as it was a moment ago, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vk_provider.cloud.base import TAG_OWNER, Instance
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.faults import FaultDice


class ListingView:
    """clock: Unix seconds."""

    def __init__(self, config: SimulationConfig, dice: FaultDice, clock: Callable[[], float]) -> None:
        self._config, self._dice, self._clock = config, dice, clock
        self._shown: dict[str, tuple[Instance | None, float]] = {}
        """ID -> what listings show of it until then."""

    def note_change(self, instance_id: str, before: Instance | None) -> None:
        """Listings show the change later if they lag. before: None for a new instance."""
        if lag_s := self._dice.lag_s():
            known = self._shown.get(instance_id)
            self._shown[instance_id] = (known[0] if known else before), self._clock() + lag_s

    def forget(self, instance_id: str) -> None:
        self._shown.pop(instance_id, None)

    def list_owned(self, instances: Iterable[Instance], owner: str) -> list[Instance]:
        now = self._clock()
        visible_since = now - self._config.visible_after_s
        listed = []
        for instance in instances:
            shown = self._show(instance, now)
            if shown is None or shown.launch_time > visible_since or shown.tags.get(TAG_OWNER) != owner:
                continue
            if not self._dice.is_left_out():
                listed.append(shown)
        return listed

    def _show(self, instance: Instance, now: float) -> Instance | None:
        old = self._shown.get(instance.instance_id)
        if old is None:
            return instance
        if now < old[1]:
            return old[0]
        del self._shown[instance.instance_id]
        return instance
