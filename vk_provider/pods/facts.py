"""What must be known of a pod beside its object before an instance is chosen (preparing.PodFactFinder)."""

from __future__ import annotations

from typing import Protocol

from vk_provider.jsontypes import Json
from vk_provider.sizing.requirement import NOTHING_GIVEN, Given


class PodFacts(Protocol):
    def peek(self, pod: Json) -> Given | None:
        """What is known of it; None when it must be asked for."""

    async def find(self, pod: Json) -> Given:
        """The same, asked for; never raises."""


class NoFacts:
    """For a cloud and a cluster where nothing else matters."""

    def peek(self, pod: Json) -> Given | None:
        return NOTHING_GIVEN

    async def find(self, pod: Json) -> Given:
        return NOTHING_GIVEN
