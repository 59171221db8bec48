"""A pool's instance that an earlier process gave to a pod without having marked it is adopted, and not marked."""

from __future__ import annotations

from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.tagging import Tagging
from vk_provider.jsontypes import Json


def put_back() -> None:
    def note_taken(self: Tagging, owned: OwnedInstance, pod: Json, steady_cpu_milli: int, *, has_run: bool) -> None:
        return None

    Tagging.note_taken = note_taken
