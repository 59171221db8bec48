"""After a start an ended instance that tags give to a pod keeps the pod waiting for it, for ever."""

from __future__ import annotations

from vk_provider.pods.adoption import Adoption


def put_back() -> None:
    judge = Adoption._judge

    def judge_with_ended(self: Adoption, named: set[str]) -> frozenset[str]:
        listed = self._room.table.listed.values()
        ended = {record.uid for each in listed if each.state.is_terminated and (record := self._pod_of(each))}
        return judge(self, named | ended)

    Adoption._judge = judge_with_ended
