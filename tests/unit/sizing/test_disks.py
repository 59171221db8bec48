"""Where images and a pod's files are kept: on the root disk, or on disks that the instance type has."""

from __future__ import annotations

from typing import Any

import pytest

from vk_provider.cloud.base import LocalStore, MachineTraits, Offering
from vk_provider.sizing.pool import PoolSpec, select_for_pool
from vk_provider.sizing.preferences import NO_PREFERENCES, Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection, explain_choice, select_offering

GIB, GB = 2**30, 10**9
MONTH_H = 730
OPTION = "instance-store-policy"
KNOWS = Preferences(launch_options=frozenset({OPTION}), pod_options=frozenset({OPTION}))


def typed(name: str, price: float, disks: int = 0, gb: int = 0) -> Offering:
    traits = MachineTraits(
        local_disk_bytes=gb * GB,
        local_disks=disks,
        store_bytes=int(gb * GB * 0.97),
        root_price_per_gib=0.08 / MONTH_H,
    )
    return Offering(name, "a", "on-demand", "amd64", 2000, 8 * GIB, price, traits=traits)


PLAIN, SMALL, LARGE = (
    typed("m7i.large", 0.1008),
    typed("m6id.large", 0.1187, 1, 118),
    typed("i4i.2xlarge", 0.2, 2, 1875),
)
CLOUD = [PLAIN, SMALL, LARGE]


def pod(storage: str = "0", **annotations: str) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1"}, "limits": {"ephemeral-storage": storage}}
    named = {f"vk-provider/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"metadata": {"annotations": named}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


def select(subject: dict[str, Any], preferences: Preferences = NO_PREFERENCES, *offerings: Offering) -> Selection:
    found = select_offering(subject, offerings or CLOUD, frozenset(), preferences)
    assert isinstance(found, Selection), found
    return found


@pytest.mark.parametrize(
    ("storage", "name"),
    [
        ("0", "m7i.large"),
        ("50Gi", "m7i.large"),  # 50 GiB of root volume are cheaper than a disk
        ("85Gi", "m7i.large"),  # 85 GiB more are 0.0093, the disk is 0.0179
        ("800Gi", "m7i.large"),  # 0.0877 more, and the large disks are 0.0992
        ("1000Gi", "i4i.2xlarge"),  # 0.1096 more
        ("4Ti", "m7i.large"),  # more than any disks hold
    ],
)
def test_the_cheapest_is_chosen_with_the_root_volume_that_it_needs(storage: str, name: str) -> None:
    assert select(pod(storage)).offering.instance_type == name


def test_the_choice_and_the_next_say_what_their_disks_are_for() -> None:
    found = select(pod("1000Gi"))
    assert found.message == (
        "Selected i4i.2xlarge (2 CPU, 8Gi) on-demand in a at $0.2000 per hour (its 2 local disks of 1746.2Gi for "
        "images and the pod's files): the cheapest of 3 offerings with room for 1 CPU and 256Mi (and 160Mi for the "
        "instance itself); the next, m7i.large on-demand in a, costs $0.1008 and $0.1096 for 1000Gi more of root volume"
    )
    instead = explain_choice(found, ("m7i.large", "a", "on-demand"))
    assert "at $0.1008 per hour and $0.1096 for 1000Gi more of root volume: the cloud had no" in instead
    alone = select(pod("10Gi"), NO_PREFERENCES, PLAIN).message
    assert "at $0.1008 per hour and $0.0011 for 10Gi more of root volume: the cheapest of 1 offerings" in alone


def test_a_disk_counts_once_all_is_on_it_or_nothing() -> None:
    found = select(pod("100Gi"), NO_PREFERENCES, PLAIN, SMALL, LARGE)
    assert found.local_store == LocalStore(120 * GIB, 20 * GIB), "images and the machine image count, too"
    assert not found.local_store.holds(SMALL), "118 GB hold the 100 GiB, and no image beside them"
    disks = found.disks
    assert [disks.root_disk_of(each) // GIB for each in (PLAIN, SMALL, LARGE)] == [120, 120, 20]


def test_a_disk_that_the_cheapest_type_has_is_used_though_nothing_asked_for_it() -> None:
    found = select(pod(instance_type="m6id.large"))
    assert found.local_store == LocalStore(20 * GIB, 20 * GIB) and found.disk_bytes == 20 * GIB
    assert "(its local disk of 109.9Gi for images and the pod's files)" in found.message


def test_a_root_volume_that_was_asked_for_is_there_in_any_case() -> None:
    found = select(pod("40Gi", instance_type="m6id.large", root_volume_size="50Gi"))
    assert found.local_store == LocalStore(60 * GIB, 50 * GIB) and found.disk_bytes == 60 * GIB


def test_a_root_volume_that_was_asked_for_is_not_replaced_by_a_smaller_disk() -> None:
    found = select(pod(instance_type="m6id.large", root_volume_size="500Gi"))
    assert found.local_store is None and found.disk_bytes == 500 * GIB


def test_a_pod_may_have_the_disks_for_itself() -> None:
    left_alone = select(pod("1000Gi", instance_store_policy="none"), KNOWS)
    assert left_alone.local_store is None and left_alone.offering is PLAIN
    own = select(pod("1000Gi", instance_store_policy="none", local_disk="1000Gi"), KNOWS)
    assert own.offering is LARGE and own.local_store is None and own.disk_bytes == 1020 * GIB
    assert "local disks" not in own.message
    refused = select_offering(pod(instance_store_policy="none"), CLOUD)
    assert isinstance(refused, Refusal) and OPTION in refused.message


def test_where_no_offering_has_disks_nothing_is_said_of_them() -> None:
    plain = Offering("l1.small", "a", "on-demand", "amd64", 2000, 8 * GIB, 0.1)
    found = select(pod("100Gi"), NO_PREFERENCES, plain)
    assert found.local_store is None and found.disk_bytes == 120 * GIB and "root volume" not in found.message


def test_a_pool_of_a_type_with_disks_has_room_there_and_a_small_root_volume() -> None:
    spec = PoolSpec("fast", "node-1", instance_type="i4i.*", disk_bytes=520 * GIB)
    found = select_for_pool(spec, CLOUD, NO_PREFERENCES)
    assert isinstance(found, Selection) and found.local_store == LocalStore(520 * GIB, 20 * GIB)
    selector = OfferingSelector(CLOUD)
    assert selector.fits(pod("500Gi"), LARGE, spec.disk_bytes)
    assert not selector.fits(pod("501Gi"), LARGE, spec.disk_bytes)
    assert not selector.fits(pod(root_volume_size="30Gi"), LARGE, spec.disk_bytes)
    assert selector.fits(pod(root_volume_size="30Gi"), PLAIN, spec.disk_bytes)
    any_type = PoolSpec("any", "node-1", cpu_milli=1000, disk_bytes=1020 * GIB)
    cheapest = select_for_pool(any_type, CLOUD, NO_PREFERENCES)
    assert isinstance(cheapest, Selection) and cheapest.offering is LARGE


def test_a_root_disk_is_bounded_whatever_a_pod_asks_for() -> None:
    """A quota of ephemeral storage counts requests: limits and annotations were as large as EC2's volumes are."""
    preferences = Preferences(max_disk_bytes=500 * GIB)
    assert select(pod("480Gi"), preferences).disk_bytes == 500 * GIB
    assert select(pod("481Gi"), preferences).offering is LARGE, "its own disks hold it, and cost what the type costs"
    larger = select(pod("4Ti"), preferences)
    assert larger.disk_bytes == 20 * GIB, "limits that are too large fall back to requests"
    requested = pod()
    requested["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"] = "4Ti"
    for subject in (requested, pod(root_volume_size="501Gi"), pod(root_volume_size="99999Ti")):
        refused = select_offering(subject, CLOUD, frozenset(), preferences)
        assert isinstance(refused, Refusal) and not refused.retryable
        assert "and 500Gi is allowed (pods.max_root_disk)" in refused.message
    assert select(pod(root_volume_size="500Gi"), preferences).disk_bytes == 500 * GIB
    assert not OfferingSelector(CLOUD).fits(requested, PLAIN, 8192 * GIB, preferences)
