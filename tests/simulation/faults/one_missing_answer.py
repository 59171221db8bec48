"""One answer of the cloud that lacks an instance counts as its end."""

from __future__ import annotations

from collections.abc import Collection

from vk_provider.instances.missing import Absence, MissingRule


def put_back() -> None:
    def judge(
        self: MissingRule, asked: Collection[str], named: Collection[str], known: int, now: float, **more: object
    ) -> Absence:
        return Absence(frozenset(name for name in asked if name not in named), frozenset(), False)

    MissingRule.judge = judge
