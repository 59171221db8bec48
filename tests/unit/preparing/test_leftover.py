"""Where images are not prepared any more, what is left is shown, paid for, and removed when it is old."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.preparing.rig import Stores
from vk_provider.cloud.imagestores import PreparedStore
from vk_provider.errors import CloudAccessError, CloudError
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.preparing import leftover
from vk_provider.preparing.leftover import LeftStores
from vk_provider.preparing.metrics import ImageMetrics

IMAGES = ImageSet.of([PinnedImage("registry.example/app:1", "sha256:" + "1" * 64)])
DAY_S, LOOK_S = 86400.0, leftover.LOOK_S


class Looked(Stores):
    """answers: errors of the next looks. done: set with look number `until`, before it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.looks, self.until, self.done = 0, 0, asyncio.Event()
        self.answers: list[CloudError] = []

    async def list_prepared(self) -> list[PreparedStore]:
        self.looks += 1
        if self.looks == self.until:
            self.done.set()
            await asyncio.Event().wait()
        if self.answers:
            raise self.answers.pop()
        return await super().list_prepared()


class Life:
    """One process."""

    def __init__(self, stores: Looked) -> None:
        self.registry, self._stores = CollectorRegistry(), stores
        stores.looks = 0
        self._left = LeftStores(stores, 7 * DAY_S, ImageMetrics(self.registry), self._now)

    def _now(self) -> float:
        return 10 * DAY_S + self._stores.looks * LOOK_S

    async def run(self, looks: int) -> None:
        """From its start, so many."""
        self._stores.until, self._stores.done = looks + 1, asyncio.Event()
        task = asyncio.create_task(self._left.run())
        async with asyncio.timeout(10.0):
            await self._stores.done.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def count(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover, "LOOK_S", 0.0)


@pytest.fixture
def stores() -> Looked:
    made = Looked()
    made.prepared = [
        PreparedStore("old", IMAGES, 10, 2 * DAY_S),
        PreparedStore("young", IMAGES, 20, 5 * DAY_S, "arm64"),
    ]
    return made


async def test_what_is_left_is_a_figure_at_once_and_the_old_ones_go_after_a_while(
    stores: Looked, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(stores)
    await life.run(1)
    assert (life.count("vk_image_stores"), life.count("vk_image_store_bytes")) == (2, 30)
    assert "2 stores of earlier ones are left (30 bytes)" in caplog.text and "images.max_age_s" in caplog.text
    assert len(stores.prepared) == 2 and not stores.swept, "it may have been switched off by mistake"
    life = Life(stores)
    await life.run(2)
    assert [store.handle for store in stores.prepared] == ["young"] and stores.swept
    assert (life.count("vk_image_stores"), life.count("vk_image_store_bytes")) == (1, 20)
    life = Life(stores)
    await life.run(round(2 * DAY_S / LOOK_S))
    assert [store.handle for store in stores.prepared] == ["young"]
    life = Life(stores)
    await life.run(round(2 * DAY_S / LOOK_S) + 1)
    assert stores.prepared == [] and life.count("vk_image_stores") == 0


async def test_a_cloud_that_does_not_let_us_look_is_named_once_and_asked_again(
    stores: Looked, caplog: pytest.LogCaptureFixture
) -> None:
    stores.answers = [CloudAccessError(f"UnauthorizedOperation: no {number}") for number in range(3)]
    await Life(stores).run(4)
    assert caplog.text.count("UnauthorizedOperation") == 1
    assert [store.handle for store in stores.prepared] == ["young"]
