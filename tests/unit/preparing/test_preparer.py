"""Who gets a prepared store: a registry that demands a password, pods with and without it, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.preparing.rig import ONE, TWO, World, make_instance, serve
from vk_provider.cloud.imagestores import (
    CorruptImageError,
    ImageStoreError,
    SourceLostError,
    StoreFullError,
)
from vk_provider.instances.instance import OwnedInstance
from vk_provider.pods.record import PodRecord
from vk_provider.preparing import poolstores
from vk_provider.preparing.preparer import MAX_TOLD_BYTES, MAX_TOLD_S
from vk_provider.preparing.upkeep import RELIST_S
from vk_provider.registry.client import AccessDeniedError, RegistryError
from vk_provider.wire.images import ImagesMessage, ImageUse


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serve(World) as made:
        yield made


@pytest.fixture
async def private(world: World) -> World:
    """The registry wants a password. `right` is a Secret with it, `wrong` one with another, `other` right for another
    user; `gone` does not exist."""
    world.registry.users = {"me": "right", "you": "too"}
    world.secrets.put("right", world.registry.host, "me", "right")
    world.secrets.put("wrong", world.registry.host, "me", "wrong")
    world.secrets.put("other", world.registry.host, "you", "too")
    return world


async def test_the_second_pod_of_an_image_starts_from_its_store_and_asks_nobody(world: World) -> None:
    assert await world.store_of() == ""
    await world.run_pod("first")
    await world.prepare()
    world.registry.requests.clear()
    assert await world.store_of() == "s1"
    assert world.registry.requests.total() == 0
    assert world.stores.asked[0][1] == ("i-first",)
    assert world.count("vk_image_store_launches_total", store="used") == 1
    assert world.count("vk_pod_images_total", how="pulled") == 1
    assert world.count("vk_image_stores_prepared_total", result="ok") == 1


async def test_before_the_preparation_nobody_is_given_anything(private: World) -> None:
    await private.run_pod("first", secret="right")
    for secret in ("right", "wrong", "gone", ""):
        assert await private.store_of(secret=secret) == ""


async def test_a_private_image_is_for_pods_whose_password_the_registry_accepts(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.requests.clear()
    assert await private.store_of(secret="right") == "s1"
    assert private.registry.requests.total() == 0  # on record
    for secret in ("wrong", "gone", ""):
        assert await private.store_of(secret=secret) == ""
    assert private.registry.refused > 0
    assert await private.store_of(secret="other") == "s1"
    assert private.registry.requests["HEAD manifests"] == 1
    assert await private.store_of(secret="other") == "s1"
    assert private.registry.requests["HEAD manifests"] == 1


async def test_a_secret_that_was_deleted_or_changed_gives_no_access_any_more(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    assert await private.store_of(secret="right") == "s1"
    kept = private.secrets.items.pop("right")
    assert await private.store_of(secret="right") == ""
    private.secrets.items["right"] = kept
    assert await private.store_of(secret="right") == "s1"
    private.secrets.put("right", private.registry.host, "me", "wrong")
    assert await private.store_of(secret="right") == ""


async def test_a_pull_policy_of_never_asks_no_registry_and_has_what_is_on_record(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.requests.clear()
    private.registry.refused = 0
    assert await private.store_of(policy="Never") == ""
    assert await private.store_of(policy="Never", secret="other") == ""
    assert await private.store_of(policy="Never", secret="right") == "s1"
    assert private.registry.requests.total() == private.registry.refused == 0


async def test_always_gets_the_store_too_as_the_agent_asks_the_registry_itself(world: World) -> None:
    await world.run_pod("first", policy="Always")
    await world.prepare()
    assert await world.store_of(policy="Always") == "s1"


async def test_an_agent_that_lies_about_the_digest_teaches_nothing(world: World) -> None:
    await world.run_pod("liar", TWO.digest)
    await world.prepare()
    assert world.stores.asked == [] and await world.store_of() == ""


async def test_a_digest_of_another_tag_is_not_taken_for_this_one_although_it_is_on_record(world: World) -> None:
    world.registry.push("team/app", "old", TWO)
    await world.run_pod("honest", TWO.digest, image=f"{world.registry.host}/team/app:old")
    await world.run_pod("liar", TWO.digest)
    await world.prepare()
    assert await world.store_of(image=f"{world.registry.host}/team/app:old") == "s1"
    assert await world.store_of() == "" and len(world.stores.asked) == 1


async def test_of_several_digests_the_one_counts_that_the_registry_names(world: World) -> None:
    record = await world.run_pod("first", TWO.digest)
    world.preparer.forget(record)
    use = ImageUse(image=world.reference, digests=[TWO.digest, ONE.digest], sizeBytes=1, pulled=True, seconds=0.0)
    world.preparer.receive(record, ImagesMessage(type="images", podUID=record.uid, images=[use]))
    await asyncio.gather(*world.preparer._tasks)
    await world.prepare()
    assert [image.digest for image in world.stores.asked[0][0].images] == [ONE.digest]


async def test_an_instance_that_had_the_old_image_teaches_the_new_one(world: World) -> None:
    await world.run_pod("first")
    await world.prepare()
    world.registry.push("team/app", "1", TWO)
    record = await world.run_pod("second")
    world.preparer.forget(record)
    use = ImageUse(image=world.reference, digests=[ONE.digest, TWO.digest], sizeBytes=1, pulled=True, seconds=0.0)
    world.preparer.receive(record, ImagesMessage(type="images", podUID=record.uid, images=[use]))
    await asyncio.gather(*world.preparer._tasks)
    await world.prepare()
    assert [store.images.images[0].digest for store in world.stores.prepared] == [TWO.digest]


async def test_pods_of_a_set_that_is_known_ask_the_registry_no_more(world: World) -> None:
    await world.run_pod("first")
    world.registry.requests.clear()
    await world.run_pod("second")
    await world.prepare()
    await world.run_pod("third")
    assert world.registry.requests.total() == 0 and len(world.stores.asked) == 1


async def test_an_agent_that_pulled_with_nothing_cannot_make_a_private_image_public(private: World) -> None:
    await private.run_pod("liar")
    await private.prepare()
    assert private.stores.asked == []
    await private.run_pod("first", secret="right")
    await private.prepare()
    assert await private.store_of() == ""


async def test_a_moved_tag_is_prepared_anew_and_who_is_on_record_goes_on_with_what_a_node_would_have(
    private: World,
) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.push("team/app", "1", TWO)
    assert await private.store_of(secret="right") == "s1"
    assert await private.store_of(secret="other") == ""  # the proof names another digest: its agent pulls that
    await private.run_pod("second", TWO.digest, secret="other")
    await private.prepare()
    assert [store.images.images[0].digest for store in private.stores.prepared] == [TWO.digest]
    assert await private.store_of(secret="other") == "s2"
    assert await private.store_of(secret="right") == "s2"  # the registry was asked: the digest is a new one


async def test_a_removed_tag_is_still_there_for_who_is_on_record(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.remove_tag("team/app", "1")
    assert await private.store_of(secret="right") == "s1"
    assert await private.store_of(secret="other") == ""


async def test_a_digest_is_an_image_of_its_own(world: World) -> None:
    by_digest = f"{world.registry.host}/team/app@{ONE.digest}"
    await world.run_pod("first", image=by_digest)
    await world.prepare()
    assert await world.store_of(image=by_digest) == "s1"
    assert await world.store_of() == ""
    assert await world.store_of(image=f"{world.registry.host}/team/app:9@{ONE.digest}") == "s1"


async def test_pods_that_start_together_prove_with_one_request(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.requests.clear()
    private.registry.delay_s = 0.02
    found = await asyncio.gather(*(private.store_of(f"p{number}", secret="other") for number in range(20)))
    assert found == ["s1"] * 20 and private.registry.requests["HEAD manifests"] == 1


async def test_a_registry_that_hangs_holds_a_launch_up_for_a_moment_only(
    private: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vk_provider.preparing.preparer.PROOF_LIMIT_S", 0.05)
    await private.run_pod("first", secret="right")
    await private.prepare()
    private.registry.delay_s = 1.0
    async with asyncio.timeout(0.9):
        assert await private.store_of(secret="other") == ""


async def test_nothing_is_learned_before_all_images_of_the_pod_are_there(world: World) -> None:
    pod = world.pod("first")
    pod["spec"]["initContainers"] = [{"name": "i", "image": "registry.invalid/x:1", "imagePullPolicy": "Always"}]
    record = PodRecord("first", "n", pod)
    record.assignment.take(OwnedInstance(make_instance("i-1")))
    world.tell(record, ONE.digest)
    await asyncio.gather(*world.preparer._tasks)
    await world.prepare()
    assert world.stores.asked == []


async def test_what_was_there_already_needs_no_store(world: World) -> None:
    await world.run_pod("first", pulled=False)
    await world.prepare()
    assert world.stores.asked == []
    assert world.count("vk_pod_images_total", how="present") == 1


@pytest.mark.parametrize("error", [StoreFullError("the disk is full"), CorruptImageError("something else")])
async def test_a_failure_is_told_on_the_pod_and_the_store_before_it_stays(world: World, error: ImageStoreError) -> None:
    await world.run_pod("first")
    await world.prepare()
    world.registry.push("team/app", "1", TWO)
    world.stores.error = error
    await world.run_pod("second", TWO.digest)
    await world.prepare()
    assert await world.store_of() == "s1"
    assert [event.split(":")[0] for event in world.events] == ["Warning ImagesNotPrepared second"]
    assert world.count("vk_image_stores_prepared_total", result=error.cause) == 1
    await world.prepare()
    assert len(world.stores.asked) == 2  # not again at once
    world.now += 60.0
    await world.run_pod("third", TWO.digest)
    await world.prepare()
    assert await world.store_of() == "s3"


async def test_a_fault_with_one_set_ends_nothing_but_its_own_preparation(world: World) -> None:
    await world.run_pod("first")
    world.stores.error = RuntimeError("a fault")
    await world.prepare()
    assert len(world.stores.asked) == 1 and await world.store_of() == ""
    assert world.count("vk_image_stores_prepared_total", result="failed") == 1
    world.now += 60.0
    await world.prepare()
    assert await world.store_of() == "s2"


@pytest.mark.parametrize("ended", [True, False])
async def test_content_that_is_lost_is_an_event_on_a_pod_that_runs_and_none_on_one_that_has_ended(
    world: World, ended: bool
) -> None:
    record = await world.run_pod("first")
    if ended:
        record.pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.stores.error = SourceLostError("no instance has the layer x")
    await world.prepare()
    assert await world.store_of() == ""
    message = "Warning ImagesNotPrepared first: the images are not prepared for the next pods, which pull them: "
    assert world.events == ([] if ended else [f"{message}no instance has the layer x"])
    assert world.count("vk_image_stores_prepared_total", result="source-lost") == 1
    await world.run_pod("second")
    await world.prepare()
    assert await world.store_of() == "s2"


async def test_a_pod_that_ends_before_its_images_are_taken_is_counted_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    record = await world.run_pod("first")
    world.preparer.forget(record)
    world.preparer.forget(record)
    assert world.count("vk_image_stores_prepared_total", result="source-lost") == 1
    assert [world.reference in text and "has ended" in text for text in caplog.messages] == [True]


async def test_images_that_the_registry_does_not_confirm_are_told_with_its_own_words(
    private: World, caplog: pytest.LogCaptureFixture
) -> None:
    await private.run_pod("liar", TWO.digest, secret="right")
    await private.run_pod("denied", secret="wrong")
    private.registry.remove_tag("team/app", "1")
    await private.run_pod("late", secret="right")
    assert private.count("vk_image_stores_prepared_total", result="unconfirmed") == 3
    for text, pod, words in zip(
        caplog.messages, ("liar", "denied", "late"), ("another digest", "is denied", "has no 1"), strict=True
    ):
        assert f"default/{pod}" in text and private.reference in text and words in text


async def test_an_instance_that_is_gone_is_asked_for_nothing(world: World) -> None:
    record = await world.run_pod("first")
    world.preparer.forget(record)
    await world.prepare()
    assert world.stores.asked == []


async def test_a_new_process_finds_the_stores_and_proves_once_more(private: World) -> None:
    await private.run_pod("first", secret="right")
    await private.prepare()
    later = World(private.registry, private.client, private.stores, private.secrets)
    await later.prepare()
    private.registry.requests.clear()
    assert await later.store_of(secret="wrong") == ""
    assert await later.store_of(secret="right") == "s1"
    assert private.registry.requests["HEAD manifests"] == 1
    await later.preparer.close()


async def test_a_store_that_nobody_used_for_long_is_given_up(world: World) -> None:
    await world.run_pod("first")
    await world.prepare()
    world.now += 900.0
    assert await world.store_of() == "s1"
    world.now += 900.0
    await world.prepare()
    assert await world.store_of() == "s1"
    world.now += 1100.0
    await world.prepare()
    assert world.stores.prepared == [] and await world.store_of() == ""


async def test_what_an_agent_repeats_costs_nothing(world: World) -> None:
    """The list comes again with each session, and as often as an agent likes."""
    record = await world.run_pod("first")
    for _ in range(50):
        world.tell(record, TWO.digest)
    await asyncio.gather(*world.preparer._tasks)
    assert world.registry.requests["HEAD manifests"] == 1


async def test_what_an_agent_says_of_images_leaves_the_sums_of_all_pods_of_use(world: World) -> None:
    pod = world.pod("liar")
    record = PodRecord("liar", "n", pod)
    record.assignment.take(OwnedInstance(make_instance("i-liar")))
    use = ImageUse(image=world.reference, digests=[ONE.digest], sizeBytes=2**63 - 1, pulled=True, seconds=2.0**63)
    other = ImageUse(image="elsewhere/x:1", digests=[], sizeBytes=2**63 - 1, pulled=False, seconds=0.0)
    world.preparer.receive(record, ImagesMessage(type="images", podUID="liar", images=[use] * 100 + [other] * 100))
    assert world.count("vk_image_pulled_bytes_total") == MAX_TOLD_BYTES
    assert world.count("vk_image_pull_seconds_sum") == MAX_TOLD_S
    assert world.count("vk_image_pull_seconds_count") == 1.0
    assert world.count("vk_image_present_bytes_total") == 0.0


async def test_pools_start_from_what_the_registry_gives_to_anybody_those_first_that_pods_asked_for_last(
    world: World,
) -> None:
    changes: list[int] = []
    world.preparer.public.follow(lambda: changes.append(1))
    world.registry.push("team/other", "1", TWO)
    other = f"{world.registry.host}/team/other:1"
    await world.run_pod("first")
    await world.run_pod("second", TWO.digest, image=other)
    await world.prepare()
    assert sorted(world.preparer.public.newest("amd64")) == ["s1", "s2"] and len(changes) >= 2
    by_reference = {store.images.images[0].reference: store.handle for store in world.stores.prepared}
    for reference in (other, world.reference):
        world.now += 1
        assert await world.store_of(image=reference) == by_reference[reference]
        assert world.preparer.public.newest("amd64")[0] == by_reference[reference]
    assert world.preparer.public.is_for_anybody("s1") and not world.preparer.public.is_for_anybody("s9")


async def test_no_pool_starts_from_an_image_that_wants_a_password(private: World) -> None:
    private.preparer.public.follow(lambda: None)
    await private.run_pod("first", secret="right")
    await private.prepare()
    public = private.preparer.public
    assert await private.store_of(secret="right") == "s1"
    assert public.newest("amd64") == [] and not public.is_for_anybody("s1") and public.is_known("s1")


async def test_after_a_restart_the_registry_says_again_what_is_for_anybody_if_there_are_pools(world: World) -> None:
    await world.run_pod("first")
    await world.prepare()
    world.registry.push("team/app", "2", TWO)
    for has_pools in (False, True):
        world.restart()
        changed = asyncio.Event()
        if has_pools:
            world.preparer.public.follow(changed.set)
        await world.prepare()
        if has_pools:
            async with asyncio.timeout(10):
                await changed.wait()
        await asyncio.gather(*world.preparer._tasks)
        assert world.preparer.public.newest("amd64") == (["s1"] if has_pools else [])
    world.registry.push("team/app", "1", TWO)  # the tag has moved: what the store has is not what it names
    world.restart()
    world.preparer.public.follow(lambda: None)
    await world.prepare()
    await asyncio.gather(*world.preparer._tasks)
    assert world.preparer.public.newest("amd64") == [] and world.preparer.public.is_known("s1")


async def test_a_registry_that_does_not_answer_after_a_restart_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poolstores, "AGAIN_FIRST_S", 0.01)
    monkeypatch.setattr(poolstores, "AGAIN_MAX_S", 0.02)
    await world.run_pod("first")
    await world.prepare()
    world.restart()
    world.preparer.public.follow(lambda: None)
    resolve, failures = world.client.resolve, 5

    async def fail(reference: str, credential: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RegistryError("status 503")
        return await resolve(reference, credential)

    monkeypatch.setattr(world.client, "resolve", fail)
    await world.prepare()
    async with asyncio.timeout(10):
        await asyncio.gather(*world.preparer._tasks)
    assert world.preparer.public.newest("amd64") == ["s1"] and failures == -1


async def test_a_registry_that_never_answers_is_not_asked_for_ever_and_one_that_refuses_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poolstores, "AGAIN_FIRST_S", 0.001)
    monkeypatch.setattr(poolstores, "AGAIN_MAX_S", 0.002)
    await world.run_pod("first")
    await world.prepare()
    for error, expected in ((RegistryError("no answer"), poolstores.TRIES), (AccessDeniedError("401"), 1)):
        asked: list[str] = []

        async def fail(reference: str, _: Any, error: Exception = error, asked: list[str] = asked) -> Any:
            asked.append(reference)
            raise error

        monkeypatch.setattr(world.client, "resolve", fail)
        world.restart()
        world.preparer.public.follow(lambda: None)
        await world.prepare()
        async with asyncio.timeout(10):
            await asyncio.gather(*world.preparer._tasks)
        assert len(asked) == expected and world.preparer.public.newest("amd64") == []


async def test_pools_start_from_stores_of_their_own_architecture(world: World) -> None:
    world.preparer.public.follow(lambda: None)
    world.architecture = world.stores.architecture = "arm64"
    await world.run_pod("first")
    await world.prepare()
    assert world.preparer.public.newest("arm64") == ["s1"] and world.preparer.public.newest("amd64") == []


async def test_a_store_that_the_cloud_has_lost_is_found_missing_after_a_while_and_made_again(world: World) -> None:
    task = asyncio.create_task(world.preparer.run())

    async def settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    await world.run_pod("first")
    await settle()
    assert await world.store_of() == "s1"
    world.stores.prepared.clear()
    world.now += RELIST_S - 1
    await world.run_pod("second")  # its agent says that the image was pulled all the same
    await settle()
    assert await world.store_of() == "s1", "the cloud is not asked all the time"
    world.now += 2
    world.preparer._upkeep.wake()
    await settle()
    assert await world.store_of() == ""
    await world.run_pod("third")
    await settle()
    assert await world.store_of() == "s2"
    task.cancel()


async def test_a_store_of_another_architecture_than_was_asked_for_is_not_made_over_and_over(world: World) -> None:
    world.stores.architecture = "arm64"
    await world.run_pod("first")
    await world.prepare()
    assert len(world.stores.asked) == 1
    world.now += 31.0
    await world.prepare()
    assert len(world.stores.asked) == 2
