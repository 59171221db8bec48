"""What pods ask of whoever answers the tokens that their containers show (podidentity.answerer)."""

from __future__ import annotations

from typing import Protocol

from vk_provider.pods.record import PodRecord
from vk_provider.wire.identity import IdentityMessage


class PodIdentities(Protocol):
    """Nothing here blocks or raises. is_on: whether agents are to take tokens at all."""

    is_on: bool

    def receive(self, record: PodRecord, message: IdentityMessage) -> None:
        """The agent of the pod has told the tokens that wait for an answer."""

    def leave(self, record: PodRecord) -> None:
        """The pod is gone."""


class NoIdentities:
    """Pods have no roles by their tokens here."""

    is_on = False

    def receive(self, record: PodRecord, message: IdentityMessage) -> None:
        return

    def leave(self, record: PodRecord) -> None:
        return
