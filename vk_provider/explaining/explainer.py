"""A few explanations at once."""

from __future__ import annotations

import asyncio

from vk_provider.explain.build import build
from vk_provider.explain.document import Explanation
from vk_provider.explain.target import QuestionError, parse_target
from vk_provider.explaining.question import Question
from vk_provider.explaining.sources import Sources

AT_ONCE = 4
"""Each reads a whole table: some ten milliseconds of a thread and some megabytes with 10,000 Services."""
ANSWER_LIMIT_S = 25.0
"""For everything. Whoever asks waits a little longer (netcli.ANSWER_LIMIT_S)."""


class NetExplainer:
    """kubelet.provider.Explainer for the pods of this provider."""

    def __init__(self, sources: Sources, limit_s: float = ANSWER_LIMIT_S) -> None:
        self._sources, self._limit_s = sources, limit_s
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def explain(self, uid: str, written: str, protocol: str) -> Explanation:
        """uid: of the pod that asks; written: TARGET[:PORT]. Raises QuestionError, KubeApiError, TimeoutError."""
        async with asyncio.timeout(self._limit_s), self._turns:
            record = self._sources.find_record(uid)
            if record is None:
                raise QuestionError("the pod is gone")
            target = parse_target(written, record.namespace, self._sources.cluster.domain, protocol)
            return build(await Question(self._sources, record, written, target).ask())
