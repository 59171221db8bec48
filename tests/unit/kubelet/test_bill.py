"""/bill of the kubelet API: what runs for the Node and what it has cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.unit.kubelet.rig import Rig
from vk_provider.errors import CloudError
from vk_provider.kubelet.access.attributes import find_subresources
from vk_provider.ledger.question import CostQuestionError
from vk_provider.ledger.store import LedgerStoreError


class Bills:
    """asked: (node, what was given). error: raised."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.error: Exception | None = None

    def instances(self, node: str) -> list[dict[str, object]]:
        return [{"instance": "i-1", "node": node}]

    async def cost(self, node: str, given: Mapping[str, str]) -> dict[str, object]:
        self.asked.append((node, dict(given)))
        if self.error is not None:
            raise self.error
        return {"rows": []}


@pytest.fixture
def bills() -> Bills:
    return Bills()


@pytest.fixture
async def rig(tmp_path: Any, bills: Bills) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    made.bills = bills
    await made.start()
    yield made
    await made.stop()


async def test_instances_are_those_of_the_node(rig: Rig) -> None:
    status, body, headers = await rig.ask("GET", "/bill/instances")
    assert status == 200 and headers["Content-Type"].startswith("application/json")
    assert body == '{"instances":[{"instance":"i-1","node":"node-1"}]}'


async def test_a_question_is_passed_on_without_what_is_not_of_it(rig: Rig, bills: Bills) -> None:
    status, body, _ = await rig.ask("GET", "/bill/cost?by=namespace&since=7d&source=tags&node=other")
    assert (status, body) == (200, '{"rows":[]}')
    assert bills.asked == [("node-1", {"by": "namespace", "since": "7d", "source": "tags"})]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CostQuestionError("is no time"), 400),
        (LedgerStoreError("cannot be used"), 503),
        (CloudError("does not answer"), 503),
    ],
)
async def test_who_cannot_answer_says_why(rig: Rig, bills: Bills, error: Exception, expected: int) -> None:
    bills.error = error
    status, body, _ = await rig.ask("GET", "/bill/cost")
    assert (status, body) == (expected, str(error))


async def test_it_is_read_only_and_takes_an_administrators_permission(rig: Rig) -> None:
    for path in ("/bill/cost", "/bill/instances"):
        assert (await rig.ask("POST", path))[0] == 405
        assert find_subresources(path) == ["proxy"]


async def test_without_bills_there_is_no_such_path(tmp_path: Any) -> None:
    made = Rig(tmp_path)
    await made.start()
    assert (await made.ask("GET", "/bill/cost"))[0] == 404
    await made.stop()
