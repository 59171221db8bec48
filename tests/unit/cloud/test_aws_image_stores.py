"""Sets in tags, volumes in launches, and where a builder is launched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from vk_provider.cloud.aws import answers
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.operations import DELETE_SNAPSHOT, DESCRIBE_BUILDERS, DESCRIBE_SNAPSHOTS, Operation
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.calls import StoreCalls
from vk_provider.cloud.aws.stores.record import (
    TAG_ARCHITECTURE,
    TAG_PART,
    StoreRecord,
    build_record_tags,
    parse_record,
)
from vk_provider.cloud.aws.stores.settings import ImageStoreSettings
from vk_provider.cloud.aws.stores.specification import (
    BuilderLaunch,
    build_builder,
    price_builder,
    rank_builders,
)
from vk_provider.cloud.aws.stores.stores import AwsImageStores, Surroundings
from vk_provider.cloud.aws.stores.volume import StoreVolume, add_image_store, build_store_mapping
from vk_provider.cloud.base import TAG_IMAGE_SET, TAG_OWNER, TAG_STEADY_CPU, MachineTraits, Offering
from vk_provider.cloud.imagestores import StoreRefusedError
from vk_provider.cloud.tags import read_steady_cpu
from vk_provider.errors import CloudRequestError
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.imagebuild import find_uuid

NONCE = "0123456789abcdef"


def record(count: int, length: int = 10) -> StoreRecord:
    images = [PinnedImage(f"registry.example:5000/{'a' * length}/{n}:v1", f"sha256:{n:064x}") for n in range(count)]
    images.append(PinnedImage("registry.example/by@sha256:" + "b" * 64, "sha256:" + "b" * 64))
    return StoreRecord(ImageSet.of(images), NONCE, "ami-0123456789abcdef0", "arm64", 12345)


@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_a_set_is_read_back_from_its_tags(count: int) -> None:
    wanted = record(count)
    tags = build_record_tags("owner", wanted)
    assert tags is not None and tags[TAG_OWNER] == "owner" and len(tags) <= 50
    assert parse_record({**tags, "of": "somebody"}) == wanted


def test_a_set_whose_names_do_not_fit_into_tags_has_no_store() -> None:
    assert build_record_tags("owner", record(60, 200)) is None


def test_tags_that_somebody_has_changed_are_no_store() -> None:
    tags = build_record_tags("owner", record(5))
    assert tags is not None
    part = f"{TAG_PART}00"
    for change in (
        {TAG_IMAGE_SET: "0" * 16},
        {part: tags[part][:-1]},
        {part: tags[part].replace("v1", "v2")},
        {"vk-provider/image-build": "x"},
        {"vk-provider/image-store-layout": "2"},
        {"vk-provider/size-bytes": "-1"},
    ):
        assert parse_record({**tags, **change}) is None, change
    assert parse_record({}) is None


def settings(**more: int | bool) -> AwsCloudSettings:
    return AwsCloudSettings(kms_key="key", image_stores=ImageStoreSettings(**more))  # type: ignore[arg-type]


def test_a_volume_is_encrypted_goes_with_its_instance_and_is_as_fast_as_the_settings_say() -> None:
    volume = StoreVolume("snap-1", NONCE, 4)
    assert build_store_mapping(volume, settings()) == {
        "DeviceName": "/dev/sdf",
        "Ebs": {
            "VolumeType": "gp3",
            "VolumeSize": 4,
            "Throughput": 125,
            "Encrypted": True,
            "DeleteOnTermination": True,
            "KmsKeyId": "key",
            "SnapshotId": "snap-1",
        },
    }
    fast = build_store_mapping(volume, settings(iops=6000, throughput=500, initialization_rate=200))["Ebs"]
    assert (fast["Iops"], fast["Throughput"], fast["VolumeInitializationRate"]) == (6000, 500, 200)
    assert fast["VolumeSize"] == 12, "EC2 wants a GiB for each 500 IOPS"


def test_boot_data_name_the_file_system_beside_what_else_they_say() -> None:
    before = BootData("CA", "00ff", extra={"instanceStore": {"leastBytes": 5}})
    after = BootData.from_user_data(add_image_store(before.to_user_data(), StoreVolume("snap-1", NONCE, 4)))
    assert after.extra == {**before.extra, "imageStore": {"uuid": find_uuid(NONCE)}}
    with pytest.raises(CloudRequestError, match="boot data"):
        add_image_store("#!/bin/sh", StoreVolume("snap-1", NONCE, 4))


def test_a_builder_is_the_cheapest_type_that_does() -> None:
    def make(name: str, price: float, **more: object) -> Offering:
        values = {"cpu_milli": 2000, "memory_bytes": 4 << 30, "zone": "a", "capacity_type": "on-demand", **more}
        return Offering(
            instance_type=name,
            architecture="amd64",
            price_per_hour=price,
            **values,  # type: ignore[arg-type]
        )

    offerings = [
        make("t2.medium", 0.001),
        make("small", 0.001, memory_bytes=2 << 30),
        make("spot", 0.001, capacity_type="spot"),
        make("gpu", 0.001, gpus=1),
        make("old", 0.001, traits=MachineTraits(is_current=False)),
        make("elsewhere", 0.001, zone="c"),
        make("unknown-price", 0.0),
        make("large", 0.02),
        make("fits", 0.01),
        make("fits", 0.01, zone="b"),
    ]
    ranked = rank_builders(offerings, "amd64", {"a": ["s1", "s2"], "b": ["s3"]})
    assert [(each.instance_type, subnet) for each, subnet in ranked] == [
        ("fits", "s1"),
        ("fits", "s3"),
        ("large", "s1"),
        ("unknown-price", "s1"),
    ]
    assert rank_builders(offerings, "arm64", {"a": ["s1"]}) == []
    burstable = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
    offerings.append(make("burstable", 0.005, traits=burstable))
    ranked = rank_builders(offerings, "amd64", {"a": ["s1"]})
    assert [each.instance_type for each, _ in ranked] == ["fits", "large", "burstable", "unknown-price"]


def test_a_builder_of_a_burstable_type_is_asked_and_paid_for_as_it_uses_all_of_its_cpu() -> None:
    traits = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
    plain = Offering("m", "a", "on-demand", "amd64", 2000, 4 << 30, 0.03)
    burstable = replace(plain, instance_type="t", traits=traits)
    launch = BuilderLaunch(ImageFacts("ami-1", "amd64", "/dev/xvda", 8), {TAG_OWNER: "us"}, "{}", 4, "token")
    assert price_builder(plain) == 0.03 and price_builder(burstable) == pytest.approx(0.03 + 1.6 * 0.05)
    for offering, credits, tag in ((plain, None, ""), (burstable, {"CpuCredits": "unlimited"}, "2000")):
        made = build_builder(settings(), launch, offering, "subnet-1")
        tags = {each["Key"]: each["Value"] for each in made["TagSpecifications"][0]["Tags"]}
        assert (made.get("CreditSpecification"), tags.get(TAG_STEADY_CPU, "")) == (credits, tag)
        assert offering.compute_price(read_steady_cpu(tags)) == price_builder(offering), "as the bill reads it"


class Account:
    """Snapshots as EC2 lists them. meanwhile: what happens while a listing is under way."""

    architectures: tuple[str, ...] = ("arm64",)
    image_id = "ami-0123456789abcdef0"

    def __init__(self) -> None:
        self.snapshots: dict[str, answers.Snapshot] = {}
        self.locked: set[str] = set()
        self.meanwhile: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def find(self, architecture: str) -> Account:
        return self

    def add(self, snapshot_id: str, count: int = 1, **change: str) -> None:
        tags = build_record_tags("owner", record(count))
        assert tags is not None
        given = [answers.Tag(key=key, value=value) for key, value in ({**tags, **change}).items()]
        began = datetime.fromtimestamp(1_700_000_000 + len(self.snapshots), UTC)
        self.snapshots[snapshot_id] = answers.Snapshot(
            snapshot_id=snapshot_id, state="completed", start_time=began, volume_size=4, tags=given
        )

    async def call(self, operation: Operation[Any], parameters: Mapping[str, Any], offering: Any = None) -> Any:
        if operation is DESCRIBE_SNAPSHOTS:
            listed = list(self.snapshots.values())
            await self.meanwhile()
            return answers.Snapshots(snapshots=listed)
        if operation is DESCRIBE_BUILDERS:
            return answers.Builders()
        assert operation is DELETE_SNAPSHOT
        if parameters["SnapshotId"] in self.locked:
            raise CloudRequestError("InvalidSnapshot.InUse: a machine image is made of it")
        del self.snapshots[parameters["SnapshotId"]]
        return answers.Nothing()


def stores_of(account: Account, **more: int) -> AwsImageStores:
    async def offerings() -> Sequence[Offering]:
        return ()

    surroundings = Surroundings(cast(Any, account), cast(Any, None), cast(Any, None), offerings, {})
    return AwsImageStores(StoreCalls(cast(Any, account), "owner"), settings(**more), "owner", surroundings)


async def test_a_launch_knows_the_size_that_the_volume_of_its_store_is_made_with() -> None:
    account = Account()
    account.add("snap-1")
    for iops, size_gib in ((3000, 4), (6000, 12)):
        stores = stores_of(account, iops=iops)
        await stores.list_prepared()
        volume = stores.find("snap-1", Account.image_id, "arm64")
        assert volume is not None and volume.volume_gib == size_gib
        assert build_store_mapping(volume, settings(iops=iops))["Ebs"]["VolumeSize"] == size_gib


async def test_a_listing_that_is_older_than_what_is_known_takes_nothing_back() -> None:
    account = Account()
    account.add("snap-1")
    stores = stores_of(account)
    await stores.list_prepared()

    async def another() -> None:
        account.meanwhile = lambda: asyncio.sleep(0)
        account.add("snap-2", 2)
        await stores.forget("snap-1")
        assert [each.handle for each in await stores.list_prepared()] == ["snap-2"]

    account.meanwhile = another
    await stores.sweep()
    assert stores.find("snap-2", Account.image_id, "arm64") is not None
    assert stores.find("snap-1", Account.image_id, "arm64") is None


async def test_a_snapshot_that_cannot_be_deleted_keeps_no_other_one() -> None:
    account = Account()
    for name in ("snap-1", "snap-2"):
        account.add(name, 1, **{TAG_PART + "00": "damaged"})
    account.locked.add("snap-1")
    await stores_of(account).sweep()
    assert set(account.snapshots) == {"snap-1"}


async def test_a_launch_gets_the_store_of_its_architecture_whichever_of_the_same_images_it_names() -> None:
    account = Account()
    account.architectures = ("amd64", "arm64")
    account.add("snap-arm")
    account.add("snap-amd", **{TAG_ARCHITECTURE: "amd64"})
    account.add("snap-other", 2, **{TAG_ARCHITECTURE: "amd64"})
    stores = stores_of(account)
    assert {each.architecture for each in await stores.list_prepared()} == {"amd64", "arm64"}
    for named in ("snap-arm", "snap-amd"):
        for architecture, handle in (("arm64", "snap-arm"), ("amd64", "snap-amd")):
            found = stores.find(named, Account.image_id, architecture)
            assert found is not None and found.snapshot_id == handle
    assert stores.find("snap-other", Account.image_id, "arm64") is None
    with stores.hold("snap-amd"):
        await stores.forget("snap-arm")
        assert "snap-arm" in account.snapshots, "the launch may have been given it"
    await stores.sweep()
    assert set(account.snapshots) == {"snap-amd", "snap-other"}


async def test_a_store_for_an_architecture_without_a_machine_image_is_refused() -> None:
    with pytest.raises(StoreRefusedError, match="no machine image is configured for riscv64"):
        await stores_of(Account()).prepare(record(1).images, [], 1 << 30, "riscv64")
