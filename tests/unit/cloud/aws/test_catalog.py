"""The catalog of EC2: what it makes of AWS's answers, and what it does without some of them."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cloud.aws.pages import PagedAws, describe_product
from vk_provider.cloud.aws.catalog import catalog as module
from vk_provider.cloud.aws.catalog.answers import read_product
from vk_provider.cloud.aws.catalog.catalog import AwsCatalog, Scope
from vk_provider.cloud.aws.catalog.listing import read_price_list
from vk_provider.cloud.aws.catalog.machines import DiskTerms, Machine, build_traits, compute_os_memory
from vk_provider.cloud.aws.catalog.prices import read_table
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.base import Offering
from vk_provider.errors import CloudError
from vk_provider.sizing.selection import Selection, select_offering

MIB, GIB = 2**20, 2**30
SUBNETS = {"eu-central-1a": ("subnet-1", "subnet-2"), "eu-central-1b": ("subnet-3",)}


class World:
    def __init__(self, directory: Path) -> None:
        self.aws = PagedAws()
        self.now = 1_790_000_000.0
        self.subnets: dict[str, tuple[str, ...]] = dict(SUBNETS)
        self.settings = CatalogSettings(directory=str(directory))

    def start(self, settings: CatalogSettings | None = None, **scope: Any) -> AwsCatalog:
        """A new process."""
        chosen = Scope("eu-central-1", lambda: self.subnets, **scope)
        return AwsCatalog(self.aws, chosen, settings or self.settings, lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "catalog")


def find(catalog: AwsCatalog, name: str, zone: str = "eu-central-1a", capacity_type: str = "on-demand") -> Offering:
    found = [
        each
        for each in catalog.offerings()
        if (each.instance_type, each.zone, each.capacity_type) == (name, zone, capacity_type)
    ]
    assert len(found) == 1, name
    return found[0]


async def test_types_pods_can_run_on_are_offered_in_the_zones_that_have_them(world: World) -> None:
    catalog = world.start()
    await catalog.refresh()
    names = {(each.instance_type, each.zone) for each in catalog.offerings()}
    usable = {"m7i.large", "m7g.large", "t3.small", "g5.xlarge", "g4ad.xlarge", "m5.metal", "x99.large"}
    assert names == {(name, "eu-central-1a") for name in usable} | {
        (name, "eu-central-1b") for name in ("m7i.large", "t3.small")
    }
    assert [o.price_per_hour for o in catalog.offerings()] == sorted(o.price_per_hour for o in catalog.offerings())
    assert find(catalog, "m7i.large").subnets == ("subnet-1", "subnet-2")
    assert find(catalog, "m7g.large").architecture == "arm64"


async def test_an_offering_has_what_is_needed_to_choose(world: World) -> None:
    catalog = world.start()
    await catalog.refresh()
    gpu, burst, plain = find(catalog, "g5.xlarge"), find(catalog, "t3.small"), find(catalog, "m7i.large")
    assert (gpu.gpus, gpu.traits.gpu_name, gpu.traits.gpu_memory_bytes) == (1, "A10G", 22888 * MIB)
    assert (gpu.traits.local_disk_bytes, gpu.traits.local_disks) == (250 * 10**9, 2)
    assert gpu.traits.store_bytes == 0, "where instances leave their disks alone"
    assert find(catalog, "g4ad.xlarge").gpus == 0, "nvidia.com/gpu is NVIDIA's"
    assert (burst.traits.baseline_cpu_milli, burst.traits.burst_price_per_cpu) == (400, 0.05)
    assert (plain.traits.baseline_cpu_milli, plain.traits.burst_price_per_cpu) == (0, 0.0)
    assert (plain.traits.interfaces, plain.traits.addresses_per_interface, plain.traits.volumes) == (3, 10, 27)
    assert plain.traits.volume_bytes_per_s == 81_250_000
    metal = find(catalog, "m5.metal").traits
    assert metal.is_metal and not metal.is_current and plain.traits.is_current
    assert plain.memory_bytes == 8 * GIB


async def test_disks_of_a_type_hold_files_where_instances_use_them_and_root_volumes_have_a_price(world: World) -> None:
    catalog = world.start(disks=DiskTerms(True, 0.0001))
    await catalog.refresh()
    disks, plain = find(catalog, "g5.xlarge").traits, find(catalog, "m7i.large").traits
    assert (disks.store_bytes, plain.store_bytes) == (242_500_000_000, 0), "without what a file system takes"
    assert disks.root_price_per_gib == plain.root_price_per_gib == 0.0001
    again = world.start(disks=DiskTerms(True, 0.0001))
    await again.refresh()
    assert find(again, "g5.xlarge").traits == disks, "the number of disks is kept, too"


async def test_dual_stack_leaves_out_types_without_room_for_both_addresses(world: World) -> None:
    says: dict[str, dict[str, object]] = {
        "m7i.large": {"Ipv6Supported": True, "Ipv6AddressesPerInterface": 10},
        "t3.small": {"Ipv6Supported": True, "Ipv6AddressesPerInterface": 1},
        "m5.metal": {"Ipv6Supported": False, "Ipv6AddressesPerInterface": 30},
    }
    world.aws.types = [
        {**each, "NetworkInfo": {**each["NetworkInfo"], **says.get(each["InstanceType"], {})}}
        for each in world.aws.types
    ]
    for _ in range(2):  # as fetched, and as kept
        plain, dual = world.start(), world.start(ipv6_addresses=2)
        await plain.refresh()
        await dual.refresh()
        names = [{each.instance_type for each in catalog.offerings()} for catalog in (plain, dual)]
        assert names[0] - names[1] == {"t3.small", "m5.metal"} and "x99.large" in names[1], "of which nothing is said"


def test_an_operating_system_has_less_than_the_nominal_memory_and_arm64_less_still() -> None:
    plain = Machine("m7i.large", "amd64", 2, 8192, ["spot"], True, False, False)
    arm = Machine("m7g.large", "arm64", 2, 8192, ["spot"], True, False, False)
    assert 0 <= 8192 * MIB * 0.925 - compute_os_memory(plain) < 4097
    assert 0 <= (8192 - 64) * MIB * 0.925 - compute_os_memory(arm) < 4097


@pytest.mark.parametrize(
    ("name", "cpus", "baseline", "price"),
    [("t3.nano", 2, 100, 0.05), ("t4g.2xlarge", 8, 3200, 0.04), ("t2.xlarge", 4, 900, 0.05), ("t9.huge", 2, 400, 0.05)],
)
def test_the_baseline_of_burstable_types_is_the_documented_one(
    name: str, cpus: int, baseline: int, price: float
) -> None:
    traits = build_traits(Machine(name, "amd64", cpus, 4096, ["spot"], True, False, True))
    assert (traits.baseline_cpu_milli, traits.burst_price_per_cpu) == (baseline, price)


async def test_prices_come_from_the_best_source_that_there_is(world: World) -> None:
    catalog = world.start()
    await catalog.refresh()
    assert find(catalog, "m7i.large").price_per_hour == 0.117, "the Pricing API's"
    assert find(catalog, "g5.xlarge").price_per_hour == 1.006, "the bundled table's, of us-east-1"
    assert find(catalog, "x99.large").price_per_hour == pytest.approx(2 * 0.06 + 8 * 0.006), "an estimate"
    assert find(catalog, "m7i.large", capacity_type="spot").price_per_hour == 0.045, "the newest of the history"
    assert find(catalog, "m7i.large", "eu-central-1b", "spot").price_per_hour == 0.117, "a thousandth is not believed"
    assert find(catalog, "g5.xlarge", capacity_type="spot").price_per_hour == 1.006, "at most as on demand"


async def test_no_price_keeps_a_pod_from_its_instance(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.aws.broken = {"get_products", "describe_spot_price_history"}
    catalog = world.start()
    await catalog.refresh()
    pod = {"spec": {"containers": [{"resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}]}}
    chosen = select_offering(pod, catalog.offerings())
    assert isinstance(chosen, Selection) and chosen.offering.instance_type == "m7g.large"
    assert "on-demand prices stay as they were" in caplog.text


async def test_a_pricing_api_that_hangs_delays_no_start_and_its_prices_come_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    gate, get_products = asyncio.Event(), world.aws.get_products

    async def answer_late(**parameters: Any) -> Any:
        await gate.wait()
        return await get_products(**parameters)

    world.aws.get_products = answer_late
    catalog = world.start()
    await catalog.refresh()
    assert find(catalog, "m7i.large").price_per_hour == 0.1008, "the bundled table's"
    gate.set()
    async with asyncio.timeout(30):
        while find(catalog, "m7i.large").price_per_hour != 0.117:
            await catalog.refresh()
    assert world.aws.count("get_products") == 2, "asked once"
    gate.clear()
    world.now += 86400
    await catalog.refresh()
    await catalog.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("catalog of EC2")]


async def test_without_instance_types_the_start_waits_with_an_error_that_can_be_tried_again(world: World) -> None:
    world.aws.broken = {"describe_instance_types"}
    catalog = world.start()
    with pytest.raises(CloudError, match="ServiceUnavailable") as caught:
        await catalog.refresh()
    assert caught.value.retryable
    world.aws.broken = set()
    world.now += 200
    await catalog.refresh()
    assert catalog.offerings()


async def test_each_part_is_asked_for_when_it_is_due_and_no_sooner(world: World) -> None:
    catalog = world.start()
    await catalog.refresh()
    calls = ("describe_instance_types", "describe_spot_price_history", "get_products")
    assert [world.aws.count(name) for name in calls] == [1, 1, 2]
    await catalog.refresh()
    assert [world.aws.count(name) for name in calls] == [1, 1, 2]
    world.now += 600 * 1.2 + 1
    world.aws.spot = [world.aws.spot_row("m7i.large", "eu-central-1a", "0.050000", 13)]
    await catalog.refresh()
    assert [world.aws.count(name) for name in calls] == [1, 2, 2]
    assert find(catalog, "m7i.large", capacity_type="spot").price_per_hour == 0.05
    world.now += 12 * 3600 * 1.2
    await catalog.refresh()
    assert [world.aws.count(name) for name in calls] == [2, 3, 4]


async def test_the_next_start_begins_with_what_the_last_one_knew(world: World) -> None:
    first = world.start()
    await first.refresh()
    world.aws.calls.clear()
    world.now += 60
    second = world.start()
    await second.refresh()
    assert world.aws.calls == [] and list(second.offerings()) == list(first.offerings())
    world.aws.broken = {"describe_instance_types", "get_products", "describe_spot_price_history"}
    world.now += 30 * 86400
    third = world.start()
    await third.refresh()
    assert list(third.offerings()) == list(first.offerings()), "old is better than nothing"


async def test_another_subnet_makes_the_zones_be_asked_for_again(world: World) -> None:
    world.subnets = {"eu-central-1a": ("subnet-1",)}
    await world.start().refresh()
    world.subnets = dict(SUBNETS)
    world.aws.calls.clear()
    catalog = world.start()
    await catalog.refresh()
    assert world.aws.count("describe_instance_types") == 1 and world.aws.count("get_products") == 0
    assert find(catalog, "m7i.large", "eu-central-1b").subnets == ("subnet-3",)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"version": 99, "region": "eu-central-1"}', b'{"region": "us-east-1"}']
)
async def test_a_file_that_cannot_be_used_is_made_anew(world: World, damage: bytes) -> None:
    path = Path(world.settings.directory) / "ec2-eu-central-1.json"
    await world.start().refresh()
    good = path.read_bytes()
    path.write_bytes(damage)
    world.aws.calls.clear()
    catalog = world.start()
    await catalog.refresh()
    assert world.aws.count("describe_instance_types") == 1 and catalog.offerings()
    assert json.loads(path.read_bytes()).keys() == json.loads(good).keys()
    assert os.listdir(world.settings.directory) == [path.name], "no half of a file is left"


async def test_a_directory_that_cannot_be_written_is_no_error(world: World) -> None:
    catalog = world.start(CatalogSettings(directory=f"{__file__}/below"))
    await catalog.refresh()
    assert catalog.offerings()


async def test_architectures_without_an_image_and_types_that_are_not_wanted_are_left_out(world: World) -> None:
    catalog = world.start(architectures=("arm64",))
    await catalog.refresh()
    assert {each.instance_type for each in catalog.offerings()} == {"m7g.large"}
    catalog = world.start(patterns=("m7*", "t3.small"))
    await catalog.refresh()
    assert {each.instance_type for each in catalog.offerings()} == {"m7i.large", "m7g.large", "t3.small"}
    catalog = world.start(CatalogSettings(directory="", previous_generations=False))
    await catalog.refresh()
    assert "m5.metal" not in {each.instance_type for each in catalog.offerings()}


@pytest.mark.parametrize(
    "answer",
    [
        {"InstanceTypes": [{"InstanceType": "m7i.large", "MemoryInfo": {"SizeInMiB": -1}}]},
        {"InstanceTypes": [{"InstanceType": "m7i\n.large"}]},
        {"InstanceTypes": "m7i.large"},
        {"InstanceTypes": [{}]},
    ],
)
async def test_an_answer_of_another_shape_changes_nothing(world: World, answer: Any) -> None:
    catalog = world.start()
    await catalog.refresh()
    before = list(catalog.offerings())

    async def answer_wrongly(**parameters: Any) -> Any:
        return answer

    world.aws.describe_instance_types = answer_wrongly
    world.now += 86400
    await catalog.refresh()
    assert list(catalog.offerings()) == before


async def test_pages_without_an_end_and_calls_without_an_answer_are_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer_for_ever(**parameters: Any) -> Any:
        return {"InstanceTypes": [], "NextToken": "again"}

    async def hang(**parameters: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "FETCH_LIMIT_S", 0.05)
    for wrong, text in ((answer_for_ever, "pages|no answer"), (hang, "no answer within")):
        world.aws.describe_instance_types = wrong
        with pytest.raises(CloudError, match=text):
            await world.start().refresh()


async def test_run_refreshes_each_part_when_it_is_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = world.start()
    await catalog.refresh()
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        world.now += delay_s
        if len(slept) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await catalog.run()
    assert all(600 * 0.8 <= delay_s <= 600 * 1.2 for delay_s in slept)
    assert world.aws.count("describe_spot_price_history") == 4 and world.aws.count("describe_instance_types") == 1


def test_a_price_document_says_its_hourly_price_or_nothing() -> None:
    assert read_product(describe_product("m7i.large", "0.1008")) == ("m7i.large", 0.1008)
    for text in ("", "{", "[]", describe_product("m7i.large", "0.0"), describe_product("m7i.large", "nan")):
        assert read_product(text) is None
    assert read_product(describe_product("m7i.large", "5", unit="Quantity")) is None
    assert read_product(describe_product("m7i.large", "1e9")) is None
    assert read_product(describe_product("m7i.large", "100001")) is None


def test_the_bundled_table_says_where_it_is_from() -> None:
    table = read_table()
    assert table.source == "github.com/aws/karpenter-provider-aws" and table.version.startswith("v")
    assert {"us-east-1", "us-gov-west-1"} <= table.dates.keys() == table.prices.keys()
    assert sum(map(len, table.prices["us-east-1"].values())) > 1000
    own, other = table.find("us-east-1", "m7i.large"), table.find("eu-central-1", "m7i.large")
    assert own is not None and other is not None
    assert (own.usd, own.source) == (0.1008, "bundled table")
    assert (other.usd, other.source) == (0.1008, "bundled table, of us-east-1")
    assert table.find("us-east-1", "x99.large") is None


async def test_the_price_list_says_how_old_each_part_is(world: World) -> None:
    empty = read_price_list("eu-central-1", world.settings)
    assert any("No catalog of eu-central-1 is kept" in note for note in empty.notes)
    assert {row.source for row in empty.rows} == {"bundled table"} and len(empty.rows) > 1000
    await world.start().refresh()
    full = read_price_list("eu-central-1", world.settings)
    assert any(note.startswith("Spot prices: fetched 2026-") for note in full.notes)
    sources = {(row.offering.instance_type, row.offering.capacity_type): row.source for row in full.rows}
    assert sources[("m7g.large", "on-demand")] == "bundled table, of us-east-1"
    assert sources[("t3.small", "on-demand")] == "Pricing API"
    assert sources[("x99.large", "spot")] == "at most as on demand: estimate"


async def test_prices_that_come_while_offerings_are_made_are_in_the_next_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = world.start(ipv6_addresses=2)
    await catalog.refresh()
    before = find(catalog, "m7i.large").price_per_hour
    list_rows, changed = module.list_rows, {**catalog.snapshot.on_demand, "m7i.large": 77.0}

    def overtaken(*arguments: Any) -> Any:
        catalog._change(on_demand=changed)
        return list_rows(*arguments)

    monkeypatch.setattr(module, "list_rows", overtaken)
    catalog._change(on_demand=dict(catalog.snapshot.on_demand))
    await catalog.refresh()
    assert find(catalog, "m7i.large").price_per_hour == before
    monkeypatch.setattr(module, "list_rows", list_rows)
    await catalog.refresh()
    assert find(catalog, "m7i.large").price_per_hour == 77.0
