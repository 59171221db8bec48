"""What holds for every choice, whatever the catalog and the pod: both are made up by hypothesis."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from vk_provider.cloud.base import LaunchRequest, MachineTraits, Offering, offering_key
from vk_provider.cloud.codes import family_of
from vk_provider.sizing import selection
from vk_provider.sizing.need import compute_need
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection

GIB = 2**30
ROOT_PRICE = 0.0002
"""USD an hour of each GiB of a root disk."""
FAMILIES = ("m7i", "m7g", "t3", "g5", "m1")
traits = st.builds(
    MachineTraits,
    os_memory_bytes=st.just(0),
    gpu_name=st.sampled_from(("", "T4", "A10G")),
    gpu_memory_bytes=st.sampled_from((0, 16 * GIB, 24 * GIB)),
    local_disk_bytes=st.sampled_from((0, 100 * GIB)),
    baseline_cpu_milli=st.sampled_from((100, 400)),
    burst_price_per_cpu=st.sampled_from((0.0, 0.0, 0.05)),
    is_current=st.booleans(),
    is_metal=st.sampled_from((False, False, False, True)),
    store_bytes=st.sampled_from((0, 0, 40 * GIB, 97 * GIB)),
    root_price_per_gib=st.just(ROOT_PRICE),
)


@st.composite
def catalogs(draw: st.DrawFn) -> list[Offering]:
    types = draw(
        st.lists(
            st.tuples(
                st.sampled_from(FAMILIES),
                st.sampled_from(("medium", "large", "xlarge")),
                st.sampled_from((1000, 2000, 4000)),
                st.sampled_from((1, 2, 4, 8)),
                st.sampled_from(("amd64", "arm64")),
                st.sampled_from((0, 0, 1)),
                traits,
            ),
            min_size=1,
            max_size=8,
            unique_by=lambda item: item[:2],
        )
    )
    found = []
    for family, size, cpu, gib, architecture, gpus, trait in types:
        for zone in ("a", "b"):
            for capacity_type in ("on-demand", "spot"):
                price = draw(st.sampled_from((0.01, 0.02, 0.03, 0.05, 0.08)))
                found.append(
                    Offering(f"{family}.{size}", zone, capacity_type, architecture, cpu, gib * GIB, price, gpus, trait)
                )
    return found


pods = st.builds(
    lambda cpu, memory, gpus, storage, annotations, selector: {
        "metadata": {"annotations": {key: value for key, value in annotations.items() if value}},
        "spec": {
            "containers": [
                {
                    "resources": {
                        "requests": {
                            "cpu": cpu,
                            "memory": memory,
                            "ephemeral-storage": storage,
                            **({"nvidia.com/gpu": "1"} if gpus else {}),
                        }
                    }
                }
            ],
            "nodeSelector": {key: value for key, value in selector.items() if value},
        },
    },
    st.sampled_from(("0", "250m", "1", "1500m", "4")),
    st.sampled_from(("0", "500Mi", "1800Mi", "3Gi")),
    st.booleans(),
    st.sampled_from(("0", "0", "10Gi", "60Gi", "200Gi")),
    st.fixed_dictionaries(
        {
            "vk-provider/root-volume-size": st.sampled_from(("", "", "30Gi")),
            "vk-provider/instance-family": st.sampled_from(("", "", "m7*", "t3, g5")),
            "vk-provider/capacity-type": st.sampled_from(("", "spot", "spot,on-demand")),
            "vk-provider/gpu-name": st.sampled_from(("", "", "", "a10g")),
            "vk-provider/local-disk": st.sampled_from(("", "", "", "50Gi")),
            "vk-provider/zone": st.sampled_from(("", "", "b")),
        }
    ),
    st.fixed_dictionaries({"kubernetes.io/arch": st.sampled_from(("", "amd64", "arm64"))}),
)


def fits(offering: Offering, pod: dict[str, Any], preferences: Preferences) -> bool:
    """The rules once more, as sentences of one offering."""
    need = compute_need(pod, preferences, limits=True)
    asked = pod["metadata"]["annotations"]
    families = [part.strip().rstrip("*") for part in asked.get("vk-provider/instance-family", "").split(",")]
    kinds = asked.get("vk-provider/capacity-type", "on-demand").split(",")
    return (
        offering.cpu_milli >= need.cpu_milli
        and offering.usable_memory_bytes >= need.memory_bytes
        and offering.gpus >= need.gpus
        and offering.architecture in (pod["spec"]["nodeSelector"].get("kubernetes.io/arch", offering.architecture),)
        and any(family_of(offering).startswith(family) for family in families)
        and offering.capacity_type in kinds
        and offering.zone == asked.get("vk-provider/zone", offering.zone)
        and offering.traits.gpu_name.lower() == asked.get("vk-provider/gpu-name", offering.traits.gpu_name.lower())
        and offering.traits.local_disk_bytes >= (50 * GIB if "vk-provider/local-disk" in asked else 0)
        and not (offering.traits.is_metal and "vk-provider/instance-family" not in asked)
    )


def find_root_disk(offering: Offering, pod: dict[str, Any]) -> int:
    """All is on the disks of the instance type, where that is possible, or all is on the root disk."""
    asked = 30 * GIB if "vk-provider/root-volume-size" in pod["metadata"]["annotations"] else 0
    need = max(asked, compute_need(pod, Preferences(), limits=True).disk_bytes)
    return max(Preferences().base_disk_bytes if offering.traits.store_bytes >= need else need, asked)


@settings(max_examples=200)
@given(catalogs(), pods, st.randoms(use_true_random=False), st.data())
def test_the_choice_fits_costs_no_more_than_another_that_fits_and_is_stable(
    catalog: list[Offering], pod: dict[str, Any], random: Any, data: st.DataObject
) -> None:
    preferences = Preferences()
    gone = frozenset(data.draw(st.sets(st.sampled_from([offering_key(each) for each in catalog]), max_size=4)))
    few = data.draw(st.sampled_from((1, 3, 10)))
    with patch.multiple(selection, MAX_ALTERNATIVES=few, MAX_SPOT_ALTERNATIVES=2 * few):
        result = OfferingSelector(catalog).select(pod, gone, preferences)
    fitting = [each for each in catalog if fits(each, pod, preferences) and offering_key(each) not in gone]
    if not fitting:
        assert isinstance(result, Refusal) and "No instance fits" in result.message
        ever = [each for each in catalog if fits(each, pod, preferences)]
        assert result.retryable == bool(ever)
        return
    assert isinstance(result, Selection)
    assert result.offering in fitting and set(map(offering_key, result.alternatives)) <= set(map(offering_key, fitting))
    steady = compute_need(pod, preferences).steady_cpu_milli
    least_root = max(Preferences().base_disk_bytes, min(find_root_disk(each, pod) for each in catalog))

    def cost(offering: Offering) -> float:
        return offering.compute_price(steady) + (find_root_disk(offering, pod) - least_root) / GIB * ROOT_PRICE

    newest = [each for each in fitting if each.traits.is_current] or fitting
    assert result.offering in newest
    chosen = (result.offering, *result.alternatives)
    costs = [(not each.traits.is_current, round(cost(each), 9)) for each in chosen]
    assert costs[0][1] == min(round(cost(each), 9) for each in newest)
    assert costs == sorted(costs)
    launch = LaunchRequest("", chosen, {}, "", 1, result.disk_bytes, local_store=result.local_store)
    assert [launch.root_disk_of(each) for each in chosen] == [find_root_disk(each, pod) for each in chosen]
    assert f"the cheapest of {len(fitting)} offerings" in result.message
    shuffled = list(catalog)
    random.shuffle(shuffled)
    with patch.multiple(selection, MAX_ALTERNATIVES=few, MAX_SPOT_ALTERNATIVES=2 * few):
        assert OfferingSelector(shuffled).select(pod, gone, preferences) == result
    ranked = sorted((not each.traits.is_current, round(cost(each), 9)) for each in fitting)
    assert costs == ranked[: len(costs)], "the alternatives are the next best"
    assert len(costs) >= min(len(fitting), 1 + few)
