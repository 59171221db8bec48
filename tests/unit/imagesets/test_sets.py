"""Which stores are made, used and given up."""

from __future__ import annotations

from dataclasses import replace

from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.imagesets.sets import MAX_SOURCES, MAX_WANTED, RETRY_FIRST_S, ImageSets, Limits, Store

LIMITS = Limits(max_bytes=100, max_age_s=1000.0)


def image(name: str, digit: str = "1") -> PinnedImage:
    return PinnedImage(f"registry.example/{name}:1", "sha256:" + digit * 64)


def images(*names: str, digit: str = "1") -> ImageSet:
    return ImageSet.of(image(name, digit) for name in names)


def store(handle: str, of: ImageSet, *, size: int = 10, at: float = 0.0, used: float | None = None) -> Store:
    return Store(handle, of, size, at, at if used is None else used)


def test_a_set_is_the_same_whatever_the_order_of_its_images() -> None:
    first = ImageSet.of([image("a"), image("b")])
    second = ImageSet.of([image("b"), image("a"), image("a")])
    assert first == second and first.key == second.key
    assert first.key != images("a", "b", digit="2").key


def test_what_pods_wait_for_is_prepared_before_what_was_used_last() -> None:
    sets = ImageSets(LIMITS)
    sets.learn(images("old"), "i-1", 1.0)
    sets.learn(images("new"), "i-2", 2.0)
    wanted = sets.next_wanted(3.0)
    assert wanted is not None and wanted.images == images("new")
    queued = sets.next_wanted(3.0, [images("old").references])
    assert queued is not None and queued.images == images("old")


def test_a_set_that_has_its_store_is_not_wanted() -> None:
    sets = ImageSets(LIMITS)
    sets.learn(images("a"), "i-1", 1.0)
    sets.add_store(store("h", images("a")))
    sets.learn(images("a"), "i-2", 2.0)
    assert sets.next_wanted(3.0) is None and sets.waiting == 0


def test_a_moved_tag_is_a_new_set_whose_store_takes_the_place_of_the_old_one() -> None:
    sets = ImageSets(LIMITS)
    sets.add_store(store("old", images("a"), at=1.0, used=50.0))
    sets.learn(images("a", digit="2"), "i-1", 60.0)
    assert [each.handle for each in sets.candidates(images("a").references)] == ["old"]
    sets.add_store(store("new", images("a", digit="2"), at=61.0))
    assert [each.handle for each in sets.candidates(images("a").references)] == ["new", "old"]
    assert sets.surplus(62.0) == ["old"]


def test_a_pod_is_offered_no_store_with_an_image_that_it_does_not_name() -> None:
    sets = ImageSets(LIMITS)
    sets.add_store(store("a", images("a")))
    sets.add_store(store("ab", images("a", "b")))
    assert [each.handle for each in sets.candidates(images("a").references)] == ["a"]
    assert [each.handle for each in sets.candidates(images("a", "b", "c").references)] == ["ab", "a"]
    assert sets.candidates(images("b").references) == []


def test_bytes_are_bounded_and_the_least_recently_used_goes_first() -> None:
    sets = ImageSets(LIMITS)
    for number in range(12):
        sets.add_store(store(f"s{number}", images(f"i{number}"), at=float(number)))
    assert set(sets.surplus(20.0)) == {"s0", "s1"}
    sets.note_use("s0", 21.0)
    assert set(sets.surplus(22.0)) == {"s1", "s2"}
    assert set(sets.surplus(22.0, [images("i1").references])) == {"s2", "s3"}


def test_a_store_that_is_too_large_alone_goes_and_the_others_stay() -> None:
    sets = ImageSets(LIMITS)
    sets.add_store(store("huge", images("huge"), size=101, at=2.0))
    sets.add_store(store("small", images("small"), at=1.0))
    assert sets.surplus(3.0) == ["huge"]


def test_a_store_that_nobody_used_for_long_goes_unless_a_pod_waits_for_it() -> None:
    sets = ImageSets(LIMITS)
    sets.add_store(store("a", images("a"), at=0.0))
    assert sets.surplus(1000.0) == []
    assert sets.surplus(1001.0) == ["a"]
    assert sets.surplus(1001.0, [images("a").references]) == []


def test_a_set_that_could_not_be_prepared_is_tried_again_later_and_later() -> None:
    sets = ImageSets(LIMITS)
    sets.learn(images("a"), "i-1", 0.0)
    sets.note_failure(images("a"), 0.0)
    assert sets.next_wanted(RETRY_FIRST_S - 1) is None and sets.next_due_at() == RETRY_FIRST_S
    assert sets.next_wanted(RETRY_FIRST_S) is not None
    sets.note_failure(images("a"), RETRY_FIRST_S)
    assert sets.next_due_at() == RETRY_FIRST_S * 3


def test_a_pod_that_uses_the_set_again_does_not_shorten_the_wait_but_other_digests_do() -> None:
    sets = ImageSets(LIMITS)
    sets.learn(images("a"), "i-1", 0.0)
    sets.note_failure(images("a"), 0.0)
    sets.learn(images("a"), "i-2", 1.0)
    assert sets.next_wanted(2.0) is None
    sets.learn(images("a", digit="2"), "i-3", 3.0)
    assert sets.next_wanted(4.0) is not None


def test_sources_are_the_newest_instances_and_a_set_without_one_is_given_up() -> None:
    sets = ImageSets(LIMITS)
    for number in range(MAX_SOURCES + 2):
        sets.learn(images("a"), f"i-{number}", float(number))
    wanted = sets.next_wanted(10.0)
    assert wanted is not None and wanted.sources == tuple(f"i-{number}" for number in (5, 4, 3, 2))
    for source in wanted.sources:
        sets.forget_source(source)
    assert sets.next_wanted(10.0) is None and sets.waiting == 0


def test_the_sets_that_wait_are_bounded() -> None:
    sets = ImageSets(LIMITS)
    for number in range(MAX_WANTED + 5):
        sets.learn(images(f"i{number}"), "i-1", float(number))
    assert sets.waiting == MAX_WANTED


def test_a_named_set_is_kept_and_what_pods_have_asked_for_last_stays_what_it_was() -> None:
    sets = ImageSets(LIMITS)
    sets.add_store(store("named", images("named")))
    sets.add_store(store("asked", images("asked"), used=900.0))
    assert sets.name(images("named"), 1200.0)
    assert max(sets.stores, key=lambda each: each.used_at).handle == "asked"
    assert sets.surplus(1500.0) == []
    assert sets.surplus(2150.0) == ["asked"]
    sets.add_store(store("named", images("named"), at=2300.0))
    assert "named" not in sets.surplus(2200.0)


def test_named_sets_that_have_no_room_together_do_not_push_each_other_out_for_ever() -> None:
    sets, made = ImageSets(LIMITS), 0
    for minute in range(60):
        for name in ("a", "b", "c"):
            sets.name(images(name), minute * 60.0)
        while (wanted := sets.next_wanted(minute * 60.0)) is not None:
            made += 1
            sets.add_store(store(f"s{made}", wanted.images, size=40, at=minute * 60.0 + made))
            for handle in sets.surplus(minute * 60.0 + made):
                sets.remove_store(handle)
    assert made == 3 and len(sets.stores) == 2
    sets.remove_store(sets.stores[0].handle)
    assert [sets.name(images(name), 3600.0) for name in ("a", "b", "c")].count(True) == 3
    assert sets.next_wanted(3600.0) is not None


def test_a_named_set_that_had_no_room_is_made_when_its_name_stands_for_something_else() -> None:
    sets = ImageSets(LIMITS)
    for name in ("a", "b"):
        sets.name(images(name), 1.0)
        sets.add_store(store(name, images(name), size=60, at=1.0, used=2.0 if name == "b" else 1.0))
    assert sets.surplus(3.0) == ["a"]
    sets.remove_store("a")
    assert not sets.name(images("a"), 4.0) and sets.waiting == 0
    assert sets.name(images("a", digit="2"), 5.0) and sets.waiting == 1


def test_a_set_has_a_store_for_each_architecture_that_it_is_wanted_for() -> None:
    sets = ImageSets(LIMITS)
    assert sets.name(images("a"), 1.0, "amd64") and sets.name(images("a"), 1.0, "arm64")
    sets.learn(images("b"), "i-1", 2.0, "arm64")
    sets.add_store(replace(store("first", images("a"), at=3.0), architecture="amd64"))
    assert not sets.covers({image("a").reference: [image("a").digest]}, "riscv64") and sets.waiting == 2
    sets.add_store(replace(store("second", images("a"), at=4.0), architecture="arm64"))
    sets.learn(images("a"), "i-2", 5.0, "amd64")
    assert sets.waiting == 1 and sets.surplus(6.0) == [], "neither takes the place of the other"
    assert sets.covers({image("a").reference: [image("a").digest]}, "arm64")
    sets.note_use("first", 900.0)
    assert sets.surplus(1500.0) == [], "a launch names one of them, and gets the one that fits"
    sets.add_store(replace(store("newer", images("a", digit="2"), at=7.0, used=1400.0), architecture="arm64"))
    assert sets.surplus(1500.0) == ["second"]


def test_a_store_for_all_architectures_is_what_any_of_them_wants() -> None:
    sets = ImageSets(LIMITS)
    for architecture in ("amd64", "arm64"):
        sets.name(images("a"), 1.0, architecture)
    sets.add_store(store("a", images("a")))
    assert sets.waiting == 0 and sets.name(images("a"), 2.0, "arm64") and sets.waiting == 0


def test_a_failure_for_one_architecture_holds_up_no_other() -> None:
    sets = ImageSets(LIMITS)
    for architecture in ("amd64", "arm64"):
        sets.name(images("a"), 1.0, architecture)
    sets.note_failure(images("a"), 1.0, "arm64")
    wanted = sets.next_wanted(2.0)
    assert wanted is not None and wanted.architecture == "amd64"
