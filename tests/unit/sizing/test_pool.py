"""The size of a pool at any time, and the offerings that it may be of."""

from __future__ import annotations

import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vk_provider.cloud.base import Offering
from vk_provider.sizing.pool import MINUTES_A_DAY, PoolSpec, Window, compute_count, next_change_s, select_for_pool
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection

GIB = 2**30
NIGHT = Window(7, frozenset({4}), 22 * 60, 30 * 60)
"""Friday 22:00 to Saturday 06:00."""


def at(day: int, hours: int, minutes: int = 0) -> float:
    """Of a November that begins on a Monday."""
    return float(calendar.timegm((2027, 11, day, hours, minutes, 0)))


def offering(
    name: str, cpu: int, price: float, zone: str = "a", capacity: str = "on-demand", gpus: int = 0
) -> Offering:
    return Offering(name, zone, capacity, "amd64", cpu, cpu * 2 * GIB // 1000, price, gpus)


CATALOG = [
    offering("m.small", 1000, 0.03),
    offering("m.small", 1000, 0.04, "b"),
    offering("m.small", 1000, 0.01, "a", "spot"),
    offering("m.large", 4000, 0.12),
    offering("g.large", 4000, 0.9, gpus=1),
]


@pytest.mark.parametrize(
    ("day", "hours", "minutes", "count"),
    [(5, 21, 59, 2), (5, 22, 0, 7), (6, 0, 0, 7), (6, 5, 59, 7), (6, 6, 0, 2), (7, 22, 30, 2), (12, 23, 0, 7)],
)
def test_a_window_is_in_force_over_midnight_and_each_week(day: int, hours: int, minutes: int, count: int) -> None:
    assert compute_count(PoolSpec("p", "n", count=2, windows=(NIGHT,)), at(day, hours, minutes)) == count


def test_the_week_ends_where_it_begins() -> None:
    sunday = Window(3, frozenset({6}), 23 * 60, 25 * 60)
    spec = PoolSpec("p", "n", windows=(sunday,))
    assert [compute_count(spec, at(day, hours)) for day, hours in ((7, 23), (8, 0), (8, 1))] == [3, 3, 0]


def test_of_several_windows_the_largest_counts_even_below_the_usual_size() -> None:
    windows = (Window(1, frozenset(), 0, MINUTES_A_DAY), Window(3, frozenset(), 600, 720))
    spec = PoolSpec("p", "n", count=9, windows=windows)
    assert compute_count(spec, at(1, 11)) == 3 and compute_count(spec, at(1, 13)) == 1


def test_the_size_follows_what_pods_ask_for_up_to_its_limit() -> None:
    spec = PoolSpec("p", "n", count=2, max_count=5)
    assert [compute_count(spec, 0.0, asked) for asked in (0, 1, 4, 50)] == [2, 2, 4, 5]


@given(
    st.floats(0, 4e9),
    st.lists(st.tuples(st.frozensets(st.integers(0, 6)), st.integers(0, 1439), st.integers(1, 1440)), max_size=4),
)
def test_nothing_changes_before_the_next_change(now: float, drawn: list[tuple[frozenset[int], int, int]]) -> None:
    windows = tuple(Window(n + 1, days, start, start + long) for n, (days, start, long) in enumerate(drawn))
    spec = PoolSpec("p", "n", windows=windows)
    change_s = next_change_s(spec, now)
    assert (change_s is None) == (not windows)
    if change_s is not None:
        assert 0 < change_s <= 7 * 86400 + 60
        for share in (0.0, 0.3, 0.9, 0.999):
            # A minute is the smallest step: what is looked at begins with one.
            moment = now + share * change_s
            if moment // 60 < (now + change_s) // 60:
                assert compute_count(spec, moment) == compute_count(spec, now)


def test_a_pool_is_of_the_cheapest_offering_with_room_for_the_pod_beside_the_instances_own_use() -> None:
    preferences = Preferences(reserved_cpu_milli=100)
    found = select_for_pool(PoolSpec("p", "n", cpu_milli=1000, memory_bytes=GIB), CATALOG, preferences)
    assert isinstance(found, Selection) and found.offering.instance_type == "m.large" and not found.offering.gpus
    less = select_for_pool(PoolSpec("p", "n", cpu_milli=900, memory_bytes=GIB), CATALOG, preferences)
    assert isinstance(less, Selection) and (less.offering.instance_type, less.offering.zone) == ("m.small", "a")
    assert [each.zone for each in less.alternatives] == ["b", "a"]


def test_zone_capacity_type_and_pattern_restrict_it() -> None:
    spec = PoolSpec("p", "n", "m.*", zone="b")
    found = select_for_pool(spec, CATALOG, Preferences())
    assert isinstance(found, Selection) and (found.offering.price_per_hour, found.alternatives) == (0.04, ())
    spot = select_for_pool(PoolSpec("p", "n", "m.*", capacity_type="spot"), CATALOG, Preferences())
    assert isinstance(spot, Selection) and spot.offering.price_per_hour == 0.01
    gpu = select_for_pool(PoolSpec("p", "n", "g.large"), CATALOG, Preferences())
    assert isinstance(gpu, Selection) and gpu.offering.gpus == 1


def test_what_was_asked_for_is_the_same_whatever_is_available_and_how_many() -> None:
    one = select_for_pool(PoolSpec("p", "n", "m.*", count=1), CATALOG, Preferences())
    other = select_for_pool(
        PoolSpec("p", "n", "m.*", count=5), CATALOG, Preferences(), frozenset({("m.small", "a", "on-demand")})
    )
    assert isinstance(one, Selection) and isinstance(other, Selection)
    assert one.offering != other.offering and one.asked == other.asked
    third = select_for_pool(PoolSpec("p", "n", "m.*", disk_bytes=1), CATALOG, Preferences())
    assert isinstance(third, Selection) and third.asked != one.asked


def test_a_pool_without_an_offering_says_what_it_looked_for() -> None:
    none = select_for_pool(PoolSpec("p", "n", "x.*", zone="c"), CATALOG, Preferences())
    assert isinstance(none, Refusal) and "type x.* in c" in none.message and not none.retryable
    keys = frozenset((each.instance_type, each.zone, each.capacity_type) for each in CATALOG)
    short = select_for_pool(PoolSpec("p", "n", "m.*"), CATALOG, Preferences(), keys)
    assert isinstance(short, Refusal) and short.retryable


def pod(cpu: str, **resources: str) -> dict[str, object]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu, **resources}}}
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [container]}}


def test_a_pod_fits_what_is_large_enough_and_of_its_capacity_type_and_has_no_gpu_for_nothing() -> None:
    selector = OfferingSelector(CATALOG)
    fits = {
        (each.instance_type, each.zone, each.capacity_type)
        for each in CATALOG
        if selector.fits(pod("900m"), each, 30 * GIB, Preferences())
    }
    assert fits == {("m.small", "a", "on-demand"), ("m.small", "b", "on-demand"), ("m.large", "a", "on-demand")}
    large = [each for each in CATALOG if selector.fits(pod("2"), each, 30 * GIB, Preferences())]
    assert [each.instance_type for each in large] == ["m.large"]
    disk = {"ephemeral-storage": "20Gi"}
    assert not selector.fits(pod("900m", **disk), CATALOG[0], 30 * GIB, Preferences())
    assert selector.fits(pod("900m", **disk), CATALOG[0], 40 * GIB, Preferences())
    assert not selector.fits(pod("64"), CATALOG[3], 30 * GIB, Preferences())
