"""Who waits for the store of images that are pulled for the first time."""

from __future__ import annotations

import asyncio

from vk_provider.preparing.firsttime import BASE_S, RATE, FirstTime

A = frozenset({"registry.example/a:1"})


class Stores:
    def __init__(self) -> None:
        self.ready: set[frozenset[str]] = set()

    def has(self, references: frozenset[str]) -> bool:
        return references in self.ready


def make(limit_s: float = 60.0, pioneers: int = 1) -> tuple[FirstTime, Stores]:
    stores = Stores()
    return FirstTime(pioneers, limit_s, stores.has), stores


async def waiting(first: FirstTime, uid: str = "two") -> asyncio.Task[None]:
    task = asyncio.create_task(first.wait(A, uid, 1 << 40))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def ended(task: asyncio.Task[None]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_the_first_pod_goes_and_the_next_waits_for_the_store() -> None:
    first, stores = make()
    assert not first.must_wait(A, "one")
    assert not first.must_wait(A, "one"), "also when it is asked again"
    assert first.must_wait(A, "two")
    task = await waiting(first)
    assert not task.done()
    stores.ready.add(A)
    first.reopen(A)
    assert await ended(task)


async def test_other_images_are_nobodys_business() -> None:
    first, _ = make()
    assert not first.must_wait(A, "one")
    assert not first.must_wait(frozenset({"registry.example/b:1"}), "two")
    assert not first.must_wait(frozenset(), "three")


async def test_nobody_waits_for_a_store_that_will_not_be() -> None:
    first, _ = make()
    assert not first.must_wait(A, "one")
    task = await waiting(first)
    first.settle(A)
    assert await ended(task)
    assert not first.must_wait(A, "three")


async def test_another_pod_takes_the_place_of_a_first_one_that_is_gone() -> None:
    first, _ = make()
    assert not first.must_wait(A, "one")
    two, three = await waiting(first, "two"), await waiting(first, "three")
    first.leave("one")
    await asyncio.sleep(0.01)
    assert sorted([two.done(), three.done()]) == [False, True]
    for task in (two, three):
        task.cancel()
    await asyncio.gather(two, three, return_exceptions=True)


async def test_the_time_has_a_limit_that_grows_with_the_size() -> None:
    first, _ = make(limit_s=0.05)
    assert not first.must_wait(A, "one")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await first.wait(A, "two", 1 << 40)
    assert loop.time() - began < 5.0
    assert BASE_S + 70e6 / RATE < 60.0 < BASE_S + 1e9 / RATE


async def test_a_store_is_awaited_as_long_as_a_pod_waits_for_it() -> None:
    first, stores = make()
    assert not first.must_wait(A, "one")
    assert not first.is_awaited(A), "the first pod does not wait"
    two, three = await waiting(first, "two"), await waiting(first, "three")
    two.cancel()
    assert await ended(two)
    assert first.is_awaited(A)
    stores.ready.add(A)
    first.reopen(A)
    assert await ended(three)
    assert not first.is_awaited(A)


async def test_a_store_is_not_awaited_any_more_when_the_time_is_up() -> None:
    first, _ = make(limit_s=0.01)
    assert not first.must_wait(A, "one")
    await first.wait(A, "two", 1)
    assert not first.is_awaited(A)


async def test_it_can_be_switched_off() -> None:
    first, _ = make(limit_s=0.0)
    assert not any(first.must_wait(A, uid) for uid in ("one", "two", "three"))
