"""Pods that may not read the same share a group, and so an instance that one of them has had and that says it is
empty."""

from __future__ import annotations

from vk_provider.podmodel.references import PodReferences


def put_back() -> None:
    PodReferences.access = property(lambda self: ())
