"""What instances of a type really have of its memory, as their agents say; the catalog's figure is an estimate.

An agent may lie. What it says is for the sizing of other pods, so it counts only within what a virtual machine can
lose, and the least of the last few counts: a lie can make an instance type look a little smaller, never larger.
"""

from __future__ import annotations

from collections import deque

from vk_provider.cloud.base import Offering
from vk_provider.sizing.selection import with_memory

LEAST_SHARE = 0.85
"""Of the nominal memory. A virtual machine loses 2 to 8 % to its hypervisor, firmware and kernel."""
REPORTS = 8
"""Of each type, the last ones."""
STEP_BYTES = 4 * 2**20
"""Two boots of one type differ by less: that is no news."""


class LearnedMemory:
    """By instance type."""

    def __init__(self) -> None:
        self._reports: dict[str, deque[int]] = {}

    def observe(self, nominal: Offering, memory_bytes: int) -> bool:
        """An agent has said what its instance has. `nominal`: the catalog's, of that type. Returns whether what is
        known of the type has changed by it."""
        if not nominal.memory_bytes * LEAST_SHARE <= memory_bytes <= nominal.memory_bytes:
            return False
        before = self.find(nominal.instance_type)
        reports = self._reports.setdefault(nominal.instance_type, deque(maxlen=REPORTS))
        reports.append(memory_bytes // STEP_BYTES * STEP_BYTES)
        return self.find(nominal.instance_type) != before

    def find(self, instance_type: str) -> int:
        """0 when nothing was said of it."""
        return min(self._reports.get(instance_type, ()), default=0)

    def apply(self, offering: Offering) -> Offering:
        """The offering, with what its type has."""
        known = self.find(offering.instance_type)
        return with_memory(offering, known) if known and known != offering.usable_memory_bytes else offering
