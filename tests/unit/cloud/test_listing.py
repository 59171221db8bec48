"""A listing of many pages while some of its calls fail."""

from __future__ import annotations

import pytest

from tests.launching import tags_of_pod
from vk_provider.cloud import listing
from vk_provider.cloud.base import InstancePage, LaunchRequest
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.wrapped import WrappedCloud
from vk_provider.errors import CloudError, CloudRequestError, CloudThrottledError

PAGES = 4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "AGAIN_S", 0.01)
    monkeypatch.setattr(listing, "AGAIN_MAX_S", 0.02)


class Calls(WrappedCloud):
    """A cloud whose pages after the first raise `problems` in turn."""

    def __init__(self, cloud: SimulatedCloud, *problems: CloudError) -> None:
        super().__init__(cloud)
        self.pages: list[str] = []
        self._problems = list(problems)

    async def list_page(self, page: str = "") -> InstancePage:
        self.pages.append(page)
        if page and self._problems:
            raise self._problems.pop(0)
        return await self._inner.list_page(page)


@pytest.fixture
async def cloud() -> SimulatedCloud:
    made = SimulatedCloud(SimulationConfig(page_size=1), "test")
    offering = (await made.describe_offerings())[0]
    for number in range(PAGES):
        tags = tags_of_pod("test", "node-1", f"uid-{number}", f"p{number}")
        await made.launch(LaunchRequest(f"token-{number}", (offering,), tags, "boot"))
    return made


@pytest.mark.parametrize("problem", [CloudThrottledError("RequestLimitExceeded"), CloudError("InternalError")])
async def test_a_page_that_fails_is_asked_for_again_and_those_before_it_are_not(
    cloud: SimulatedCloud, problem: CloudError
) -> None:
    calls = Calls(cloud, problem, problem, problem)
    assert len(await list_owned(calls)) == PAGES
    assert calls.pages.count("") == 1 and len(calls.pages) == PAGES + 3


@pytest.mark.parametrize("patience_s", [0.0, 30.0])
async def test_a_listing_fails_when_a_page_does_for_long_or_is_refused(
    cloud: SimulatedCloud, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr(listing, "PATIENCE_S", patience_s)
    problem = CloudRequestError("InvalidParameterValue: NextToken") if patience_s else CloudError("InternalError")
    calls = Calls(cloud, problem)
    with pytest.raises(type(problem)):
        await list_owned(calls)
    assert len(calls.pages) == 2
