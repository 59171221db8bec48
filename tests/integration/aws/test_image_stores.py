"""Prepared image stores on EC2 as moto's patched server plays it; tests.moto.builders plays the builders."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.aws.conftest import OWNER, offering, request, started
from tests.moto.builders import Builders
from tests.moto.plan import Plan, Rule, Shortage
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.aws.operations import AwsApi, Operation
from vk_provider.cloud.aws.stores import preparation
from vk_provider.cloud.aws.stores.settings import ImageStoreSettings
from vk_provider.cloud.aws.stores.stores import AwsImageStores
from vk_provider.cloud.aws.stores.volume import STORE_DEVICE
from vk_provider.cloud.base import TAG_DISKS, TAG_IMAGE_SET, TAG_OWNER, Instance, LaunchRequest
from vk_provider.cloud.disks import read_disks
from vk_provider.cloud.imagestores import (
    BuilderDiedError,
    ImageStoreError,
    KeptStore,
    NoBudgetError,
    PreparedStore,
    SourceLostError,
    StoreFullError,
    StoreRefusedError,
)
from vk_provider.cloud.listing import list_all, list_owned
from vk_provider.cloud.volumes import VolumeSpeed
from vk_provider.errors import CloudError
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.imagebuild import BuildAnswer, find_uuid

GIB = 1 << 30
LIMIT_S = 120.0
SETTINGS = ImageStoreSettings(enabled=True)
ONE = ImageSet.of([PinnedImage("registry.example/team/app:1", "sha256:" + "1" * 64)])
TWO = ImageSet.of([*ONE.images, PinnedImage("registry.example:5000/side@sha256:" + "2" * 64, "sha256:" + "2" * 64)])
USER_DATA = BootData("CA", "00ff").to_user_data()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "POLL_S", 0.1)


@pytest.fixture
async def builders(moto: MotoServer, account: Account) -> AsyncIterator[Builders]:
    made = Builders(moto)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def storing(moto: MotoServer, account: Account, **more: Any) -> AsyncIterator[AwsCloud]:
    async with started(moto, account, **{"image_stores": SETTINGS, **more}) as made:
        yield made


@pytest.fixture
async def cloud(moto: MotoServer, account: Account) -> AsyncIterator[AwsCloud]:
    async with storing(moto, account) as made:
        yield made


def stores_of(cloud: AwsCloud) -> AwsImageStores:
    return cloud.image_stores


async def prepare(cloud: AwsCloud, images: ImageSet = ONE, max_bytes: int = 20 * GIB) -> PreparedStore:
    async with asyncio.timeout(LIMIT_S):
        return await stores_of(cloud).prepare(images, [], max_bytes)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.05)


def snapshots(moto: MotoServer) -> list[dict[str, Any]]:
    filters = [{"Name": "tag-key", "Values": [TAG_IMAGE_SET]}]
    return moto.client("ec2").describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]


def devices_of(moto: MotoServer, instance_id: str) -> dict[str, dict[str, Any]]:
    """Device name to its volume."""
    ec2 = moto.client("ec2")
    (found,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    names = {each["Ebs"]["VolumeId"]: each["DeviceName"] for each in found["BlockDeviceMappings"]}
    return {names[each["VolumeId"]]: each for each in ec2.describe_volumes(VolumeIds=list(names))["Volumes"]}


def extra_of(moto: MotoServer, instance_id: str) -> dict[str, Any]:
    told = moto.client("ec2").describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    return BootData.from_user_data(base64.b64decode(told["UserData"]["Value"]).decode()).extra


def launch_with(token: str, handle: str, account: Account, **more: Any) -> LaunchRequest:
    return replace(request(token, offering(account), **more), image_store=handle, user_data=USER_DATA)


# --- prepare -------------------------------------------------------------------------------------------------------


async def test_a_set_is_made_by_one_builder_which_is_gone_and_the_next_process_finds_it(
    moto: MotoServer, account: Account, builders: Builders
) -> None:
    async with storing(moto, account) as cloud:
        made = await prepare(cloud, TWO)
        assert (made.images, made.size_bytes) == (TWO, 1000)
        assert await prepare(cloud, TWO) == made, "a set that has a store needs no builder"
        assert await stores_of(cloud).list_prepared() == [made]
    (order,) = builders.orders.values()
    assert {(each.reference, each.digest) for each in order.images} == {
        (each.reference, each.digest) for each in TWO.images
    }
    assert builders.alive() == [] and len(snapshots(moto)) == 1
    async with storing(moto, account) as after:
        assert await stores_of(after).list_prepared() == [made]
        assert await prepare(after, TWO) == made
    assert moto.calls()["RunInstances"] == 1


async def test_a_builder_is_small_locked_up_and_no_instance_of_ours(
    cloud: AwsCloud, moto: MotoServer, builders: Builders
) -> None:
    moto.plan(Plan(snapshot_s=0.5))
    preparing = asyncio.create_task(prepare(cloud))
    await until(lambda: builders.orders)
    (builder,) = builders.list()
    tags = {tag["Key"]: tag["Value"] for tag in builder["Tags"]}
    assert (tags[TAG_OWNER], tags[TAG_IMAGE_SET]) == (OWNER, ONE.key)
    assert builder["InstanceType"] == "c7i.large" and builder["MetadataOptions"]["HttpTokens"] == "required"
    assert await list_owned(cloud) == [], "no pod is given to it, and no sweep of instances ends it"
    told = moto.client("ec2").describe_instance_attribute(
        InstanceId=builder["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    volumes = devices_of(moto, builder["InstanceId"])
    assert volumes[STORE_DEVICE]["Size"] == SETTINGS.volume_gib and volumes[STORE_DEVICE]["Encrypted"]
    await preparing
    (snapshot,) = snapshots(moto)
    assert snapshot["VolumeId"] == volumes[STORE_DEVICE]["VolumeId"] and builders.alive() == []


class Costs:
    """What the bill is told."""

    def __init__(self, usd_per_hour: float = 1.0) -> None:
        self.limit, self.asked = usd_per_hour, list[float]()
        self.builders, self.ended = list[Instance](), list[str]()
        self.kept: Sequence[KeptStore] = ()

    def may_spend(self, usd_per_hour: float) -> bool:
        self.asked.append(usd_per_hour)
        return usd_per_hour <= self.limit

    def note_builder(self, builder: Instance) -> None:
        self.builders.append(builder)

    def note_ended(self, instance_id: str) -> None:
        self.ended.append(instance_id)

    def note_kept(self, kept: Sequence[KeptStore]) -> None:
        self.kept = kept


async def test_what_a_store_costs_is_told_from_its_builder_on_until_its_snapshot_is_gone(
    moto: MotoServer, account: Account, builders: Builders
) -> None:
    moto.plan(Plan(snapshot_s=0.5))
    fast = replace(SETTINGS, iops=4000, throughput=225)
    async with storing(moto, account, image_stores=fast) as cloud:
        costs, stores = Costs(), stores_of(cloud)
        stores.follow_costs(costs)
        preparing = asyncio.create_task(prepare(cloud))
        await until(lambda: builders.orders)
        (builder,) = costs.builders
        assert (builder.instance_type, builder.zone) == ("c7i.large", account.zones[0]) and builder.launch_time > 0
        listing = await list_all(cloud)
        assert listing.instances == [] and [each.instance_id for each in listing.builders] == [builder.instance_id]
        assert listing.builders[0].tags == builder.tags
        disks = read_disks(builder.tags[TAG_DISKS], 0)
        assert disks is not None and disks.root_gib >= 8 == disks.data_gib
        assert (disks.root_speed, disks.data_speed) == (VolumeSpeed(4000, 0), VolumeSpeed(4000, 225))
        beyond = 2 * 1000 * 0.005 + 100 * 0.04
        (offered,) = [each for each in await cloud.describe_offerings() if (each.instance_type, each.zone) == (
            builder.instance_type, builder.zone) and each.capacity_type == "on-demand"]  # fmt: skip
        assert costs.asked[-1] == pytest.approx(offered.price_per_hour + (disks.total_gib * 0.08 + beyond) / 730)
        made = await preparing
        assert costs.ended == [builder.instance_id]
        (kept,) = costs.kept
        assert (kept.handle, kept.key) == (made.handle, ONE.key)
        assert kept.usd_per_hour == pytest.approx(1000 / GIB * 0.05 / 730)
        await stores.forget(made.handle)
        assert list(costs.kept) == []


async def test_snapshots_that_are_of_no_use_are_told_until_they_are_deleted(
    moto: MotoServer, account: Account, builders: Builders
) -> None:
    async with storing(moto, account) as cloud:
        made = await prepare(cloud)
    tags = [{"Key": "vk-provider/image-store-layout", "Value": "0"}]
    moto.client("ec2").create_tags(Resources=[made.handle], Tags=tags)
    async with storing(moto, account) as after:
        costs = Costs()
        stores_of(after).follow_costs(costs)
        assert await stores_of(after).list_prepared() == []
        (kept,) = costs.kept
        assert kept.handle == made.handle and kept.usd_per_hour == pytest.approx(4 * 0.05 / 730), "its size is unknown"
        await stores_of(after).sweep()
        assert list(costs.kept) == [] and snapshots(moto) == []


async def test_no_builder_is_launched_beyond_the_budget(cloud: AwsCloud, moto: MotoServer, builders: Builders) -> None:
    stores_of(cloud).follow_costs(Costs(0.01))
    with pytest.raises(NoBudgetError, match=r"budget\.usd_per_hour"):
        await prepare(cloud)
    assert builders.list() == [] and moto.calls()["RunInstances"] == 0


async def test_a_set_that_does_not_fit_gets_a_larger_volume_up_to_the_limit(
    cloud: AwsCloud, moto: MotoServer, builders: Builders
) -> None:
    builders.answer = lambda order: (
        BuildAnswer(0, "full", "no space left") if len(builders.orders) < 3 else BuildAnswer(9)
    )
    made = await prepare(cloud, ONE, 20 * GIB)
    assert len(builders.orders) == 3 and snapshots(moto)[0]["VolumeSize"] == 20 and made.size_bytes == 9
    builders.answer = lambda order: BuildAnswer(0, "full", "no space left")
    with pytest.raises(StoreFullError, match="no space left"):
        await prepare(cloud, TWO, 5 * GIB)
    assert len(builders.orders) == 5 and builders.alive() == [] and len(snapshots(moto)) == 1


async def test_images_that_a_registry_does_not_show_cost_one_builder_and_not_one_for_every_try(
    cloud: AwsCloud, moto: MotoServer, builders: Builders
) -> None:
    builders.answer = lambda order: BuildAnswer(0, "refused", "401 Unauthorized")
    for _ in range(2):
        with pytest.raises(StoreRefusedError):
            await prepare(cloud)
    assert len(builders.orders) == 1 and builders.alive() == [] and snapshots(moto) == []
    builders.answer = lambda order: BuildAnswer(5)
    await prepare(cloud, TWO)


async def test_a_builder_that_ends_and_one_that_says_nothing_are_failures_and_the_stores_stay(
    cloud: AwsCloud, moto: MotoServer, builders: Builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await prepare(cloud, TWO)
    builders.answer = lambda order: None
    preparing = asyncio.create_task(prepare(cloud))
    await until(lambda: len(builders.orders) == 2)
    moto.set_state(builders.alive()[0], "terminated", "Client.InstanceInitiatedShutdown: it has turned itself off")
    with pytest.raises(BuilderDiedError):
        await preparing
    monkeypatch.setattr(preparation, "BOOT_S", 1.0 - SETTINGS.builder_limit_s)
    with pytest.raises(BuilderDiedError):
        await prepare(cloud)
    assert builders.alive() == []
    assert await stores_of(cloud).list_prepared() == [before]


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (Plan(max_snapshots=1), StoreFullError),
        (Plan(max_volumes=1), StoreFullError),
        (Plan(max_instances=1, rules=(Rule("RunInstances", "InstanceLimitExceeded"),)), StoreFullError),
        (Plan(shortages=(Shortage("*"),)), ImageStoreError),
        (Plan(rules=(Rule("CreateSnapshot", "UnauthorizedOperation", status=403),)), ImageStoreError),
    ],
)
async def test_limits_of_the_account_are_named_and_nothing_is_left(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders, plan: Plan, error: type[Exception]
) -> None:
    await prepare(cloud, TWO)
    moto.plan(plan)
    with pytest.raises(error):
        await prepare(cloud)
    moto.plan()
    assert builders.alive() == [] and len(snapshots(moto)) == 1
    await prepare(cloud)


async def test_no_capacity_for_one_type_is_asked_of_the_next(
    cloud: AwsCloud, moto: MotoServer, builders: Builders
) -> None:
    moto.plan(Plan(shortages=(Shortage("c7i.large/*"),)))
    await prepare(cloud)
    assert [each["InstanceType"] for each in builders.list()] != ["c7i.large"]


async def test_a_snapshot_that_ec2_cannot_complete_is_deleted_and_told(
    cloud: AwsCloud, moto: MotoServer, builders: Builders
) -> None:
    moto.plan(Plan(snapshot_s=60.0))
    preparing = asyncio.create_task(prepare(cloud))
    await until(lambda: snapshots(moto))
    moto.set_snapshot(snapshots(moto)[0]["SnapshotId"], "error")
    with pytest.raises(ImageStoreError, match="could not complete"):
        await preparing
    assert snapshots(moto) == [] and builders.alive() == []


APIS = (
    "RunInstances",
    "DescribeInstances",
    "GetConsoleOutput",
    "CreateSnapshot",
    "DescribeSnapshots",
    "TerminateInstances",
)


@pytest.mark.parametrize(
    ("code", "after"),
    [("InternalError", False), ("InternalError", True), ("RequestLimitExceeded", False), ("RequestExpired", False)],
)
async def test_calls_without_an_answer_and_throttled_ones_are_one_builder_and_one_snapshot_in_the_end(
    cloud: AwsCloud, moto: MotoServer, builders: Builders, code: str, after: bool
) -> None:
    moto.plan(Plan(rules=tuple(Rule(api, code, status=503, times=2, after=after) for api in APIS)))
    made = await prepare(cloud)
    for _ in range(3):
        with suppress(CloudError):  # the next sweep goes on
            await stores_of(cloud).sweep()
    assert builders.alive() == [] and len(builders.orders) == 1
    assert [each["SnapshotId"] for each in snapshots(moto)] == [made.handle]


class Died(BaseException):
    """The process is gone."""


class Mortal:
    """Dies at its n-th call of one cloud, before it is made or before its answer is read."""

    def __init__(self, api: AwsApi, at: int, answered: bool) -> None:
        self._call, self._at, self._answered = api.call, at, answered
        self.count = 0

    async def call(self, operation: Operation[Any], parameters: Mapping[str, Any], *more: Any, **named: Any) -> Any:
        number, self.count = self.count, self.count + 1
        if number == self._at and not self._answered:
            raise Died
        answer = await self._call(operation, parameters, *more, **named)
        if number == self._at:
            raise Died
        return answer


@pytest.mark.parametrize("answered", [False, True])
async def test_a_crash_at_every_call_leaves_one_store_and_no_builder(
    moto: MotoServer, account: Account, builders: Builders, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    steps = 0
    for at in range(100):
        images = ImageSet.of([PinnedImage(f"registry.example/app:{answered}-{at}", "sha256:" + "1" * 64)])
        launched = moto.calls()["RunInstances"]
        async with storing(moto, account) as cloud:
            mortal = Mortal(cloud._client, at, answered)
            monkeypatch.setattr(cloud._client, "call", mortal.call)
            with suppress(Died):
                await prepare(cloud, images)
            steps = mortal.count
        async with storing(moto, account) as cloud:
            made = await prepare(cloud, images)
            await stores_of(cloud).sweep()
            assert made in await stores_of(cloud).list_prepared()
        keys = [tag["Value"] for each in snapshots(moto) for tag in each["Tags"] if tag["Key"] == TAG_IMAGE_SET]
        assert keys.count(images.key) == 1 and builders.alive() == [], at
        assert moto.calls()["RunInstances"] - launched == 1, "what a crash has left is gone on with"
        if steps <= at:
            break
    assert 5 < steps < 60


# --- launch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fleet", [False, True])
async def test_an_instance_with_a_handle_has_a_volume_of_the_snapshot_and_knows_it(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders, fleet: bool
) -> None:
    made = await prepare(cloud)
    (order,) = builders.orders.values()
    wanted = launch_with("one", made.handle, account)
    if fleet:
        wanted = replace(wanted, offerings=(offering(account), offering(account, zone=1)), count=2)
    answer = await cloud.launch(wanted)
    assert len(answer.instances) == wanted.count and moto.calls()["CreateFleet"] == fleet
    for instance in answer.instances:
        volumes = devices_of(moto, instance.instance_id)
        assert len(volumes) == 2 and volumes[STORE_DEVICE]["SnapshotId"] == made.handle
        assert extra_of(moto, instance.instance_id) == {"imageStore": {"uuid": find_uuid(order.nonce)}}


async def test_without_a_handle_and_with_one_of_another_machine_image_there_is_no_volume(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders
) -> None:
    made = await prepare(cloud)
    other = moto.client("ec2").register_image(
        Name="other", Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm"
    )["ImageId"]
    for token, handle, options in (("a", "", {}), ("b", "snap-0", {}), ("c", made.handle, {"image": other})):
        (instance,) = (await cloud.launch(launch_with(token, handle, account, options=options))).instances
        assert set(devices_of(moto, instance.instance_id)) == {"/dev/xvda"}
        assert extra_of(moto, instance.instance_id) == {}


@pytest.mark.parametrize("lost", ["snapshot", "volumes"])
async def test_a_store_that_cannot_be_had_costs_the_volume_and_not_the_pod(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders, lost: str
) -> None:
    made = await prepare(cloud)
    if lost == "snapshot":
        moto.client("ec2").delete_snapshot(SnapshotId=made.handle)
    else:
        moto.plan(Plan(max_volumes=1))
    two = replace(launch_with("two", made.handle, account), offerings=(offering(account), offering(account, zone=1)))
    for wanted in (launch_with("one", made.handle, account), two):
        if lost == "volumes":
            moto.plan(Plan(max_volumes=len(await list_owned(cloud)) + 1))
        (instance,) = (await cloud.launch(wanted)).instances
        assert set(devices_of(moto, instance.instance_id)) == {"/dev/xvda"}
    assert (await stores_of(cloud).list_prepared() == []) == (lost == "snapshot")


async def test_a_launch_that_is_repeated_is_the_same_call_though_the_store_is_forgotten_meanwhile(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders
) -> None:
    made = await prepare(cloud)
    moto.plan(Plan(rules=(Rule("RunInstances", "InternalError", status=500, times=1, after=True),)))
    wanted = launch_with("one", made.handle, account)
    with pytest.raises(Exception, match="InternalError"):
        await cloud.launch(wanted)
    await stores_of(cloud).forget(made.handle)
    (instance,) = (await cloud.launch(wanted)).instances
    assert devices_of(moto, instance.instance_id)[STORE_DEVICE]["SnapshotId"] == made.handle
    assert len(await list_owned(cloud)) == 1


# --- forget and sweep ----------------------------------------------------------------------------------------------


async def test_a_store_is_forgotten_once_no_launch_names_it_and_instances_keep_their_volumes(
    cloud: AwsCloud, moto: MotoServer, account: Account, builders: Builders
) -> None:
    made, stores = await prepare(cloud), stores_of(cloud)
    (instance,) = (await cloud.launch(launch_with("one", made.handle, account))).instances
    with stores.hold(made.handle):
        await stores.forget(made.handle)
        assert await stores.list_prepared() == []
        await stores.sweep()
        assert len(snapshots(moto)) == 1
    await stores.sweep()
    assert snapshots(moto) == [] and STORE_DEVICE in devices_of(moto, instance.instance_id)
    await stores.forget(made.handle)  # unknown by now
    (late,) = (await cloud.launch(launch_with("late", made.handle, account))).instances
    assert set(devices_of(moto, late.instance_id)) == {"/dev/xvda"}


async def test_what_nobody_needs_is_swept_and_what_is_others_is_not(
    moto: MotoServer, account: Account, builders: Builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = moto.client("ec2")
    volume = ec2.create_volume(Size=4, AvailabilityZone=account.zones[0])["VolumeId"]

    def add(**tags: str) -> str:
        of = [{"ResourceType": "snapshot", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
        return str(ec2.create_snapshot(VolumeId=volume, TagSpecifications=of)["SnapshotId"])

    async with storing(moto, account) as cloud:
        made = await prepare(cloud)
        (snapshot,) = snapshots(moto)
        tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
        twice, damaged = add(**tags), add(**{**tags, TAG_IMAGE_SET: "0" * 16})
        of_others = add(**{**tags, TAG_OWNER: "somebody"})
        stopped_at = builders.answer
        builders.answer = lambda order: None
        hanging = asyncio.create_task(prepare(cloud, TWO))
        await until(lambda: len(builders.orders) == 2)
        await stores_of(cloud).sweep()
        assert {each["SnapshotId"] for each in snapshots(moto)} == {made.handle, of_others}
        assert {twice, damaged}.isdisjoint(each["SnapshotId"] for each in snapshots(moto))
        assert len(builders.alive()) == 1, "the builder of the set that is prepared now"
        hanging.cancel()
        with suppress(asyncio.CancelledError):
            await hanging
    builders.answer = stopped_at
    monkeypatch.setattr("vk_provider.cloud.aws.stores.stores.BOOT_S", -10.0 - SETTINGS.builder_limit_s)
    async with storing(moto, account) as after:
        await stores_of(after).sweep()
    assert builders.alive() == [], "the process that waited for it is gone"


async def test_a_newer_machine_image_makes_stores_of_no_use(
    moto: MotoServer, account: Account, builders: Builders
) -> None:
    async with storing(moto, account) as cloud:
        await prepare(cloud)
    newer = moto.client("ec2").register_image(
        Name="newer", Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm"
    )["ImageId"]
    async with storing(moto, account, image_amd64=newer) as cloud:
        assert await stores_of(cloud).list_prepared() == []
        await stores_of(cloud).sweep()
        assert snapshots(moto) == []
        await prepare(cloud)
        assert len(await stores_of(cloud).list_prepared()) == 1


async def test_with_two_architectures_the_store_is_of_the_one_that_has_pulled(
    moto: MotoServer, account: Account, builders: Builders
) -> None:
    async with storing(moto, account, image_arm64=account.image_arm64, instance_types=("m7i.*", "m7g.*")) as cloud:
        with pytest.raises(SourceLostError):
            await stores_of(cloud).prepare(ONE, ["i-0123456789abcdef0"], GIB)
        arm = replace(offering(account, "m7g.large"), architecture="arm64")
        (instance,) = (await cloud.launch(request("arm", arm))).instances
        async with asyncio.timeout(LIMIT_S):
            made = await stores_of(cloud).prepare(ONE, [instance.instance_id], GIB)
        assert [each["ImageId"] for each in builders.list()] == [account.image_arm64]
        (amd,) = (await cloud.launch(launch_with("amd", made.handle, account))).instances
        assert set(devices_of(moto, amd.instance_id)) == {"/dev/xvda"}
        asked = replace(launch_with("arm-2", made.handle, account), offerings=(arm,))
        (second,) = (await cloud.launch(asked)).instances
        assert STORE_DEVICE in devices_of(moto, second.instance_id)
