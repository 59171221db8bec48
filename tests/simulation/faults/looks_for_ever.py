"""After a start an ended instance that tags give to a pod keeps the pod waiting for it, for ever."""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.cloud.base import Instance
from vk_provider.pods.adoption import Adoption


def put_back() -> None:
    right = Adoption._judge

    def judge(self: Adoption, listed: Iterable[Instance], began: float | None = None) -> dict[str, str]:
        listed = list(listed)
        ended = {record.uid for each in listed if each.state.is_terminated and (record := self._pod_of(each))}
        return {uid: why for uid, why in right(self, listed, began).items() if why or uid not in ended}

    Adoption._judge = judge
