"""A pod's references are read once: later changes are not sent to its agent."""

from __future__ import annotations

from vk_provider.pods.resolution import ReferenceResolver


def put_back() -> None:
    ReferenceResolver._changed = lambda self, record: None
