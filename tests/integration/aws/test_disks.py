"""Instance store disks and root volumes, from the catalog of moto's EC2 to the volumes of what was launched."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.aws.conftest import offering, request, started
from tests.moto.plan import Plan, Shortage
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import LaunchAnswer, LaunchRequest, LocalStore, Offering
from vk_provider.errors import CloudRequestError
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import Selection, select_offering
from vk_provider.wire.bootdata import BootData

GIB, GB = 2**30, 10**9
BOOT = BootData("CA", "00ff").to_user_data()
TYPES = ("m7i.large", "m6id.large", "r7i.large", "i4i.large")
OPTION = frozenset({"instance-store-policy"})
KNOWS = Preferences(launch_options=OPTION, pod_options=OPTION)


def choose(offerings: list[Offering], storage: str, memory: str = "1Gi", **annotations: str) -> Selection:
    resources = {"requests": {"cpu": "1", "memory": memory, "ephemeral-storage": storage}}
    named = {f"vk-provider/{key.replace('_', '-')}": value for key, value in annotations.items()}
    pod = {"metadata": {"annotations": named}, "spec": {"containers": [{"name": "c", "resources": resources}]}}
    found = select_offering(pod, offerings, frozenset(), KNOWS)
    assert isinstance(found, Selection), found
    return found


def launch_of(token: str, chosen: Selection, *, count: int = 1, **more: Any) -> LaunchRequest:
    """As the room for the instances makes it of a choice."""
    found = {
        "user_data": BOOT,
        "disk_bytes": chosen.disk_bytes,
        "options": chosen.options,
        "local_store": chosen.local_store,
        **more,
    }
    return request(token, chosen.offering, *chosen.alternatives, count=count, **found)


def look(moto: MotoServer, answer: LaunchAnswer) -> dict[str, tuple[int, dict[str, Any]]]:
    """Instance type -> (GiB of the root volume, what its user data say of its disks)."""
    ec2, found = moto.client("ec2"), {}
    for instance in answer.instances:
        (described,) = ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"]
        (mapping,) = described["BlockDeviceMappings"]
        (volume,) = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
        assert volume["Encrypted"] and volume["VolumeType"] == "gp3"
        attribute = ec2.describe_instance_attribute(InstanceId=instance.instance_id, Attribute="userData")
        text = base64.b64decode(attribute["UserData"]["Value"]).decode()
        found[instance.instance_type] = volume["Size"], BootData.from_user_data(text).extra
    return found


async def test_the_catalog_says_what_disks_a_type_has_and_a_pod_gets_the_cheaper_of_disk_and_volume(
    moto: MotoServer, account: Account
) -> None:
    async with started(moto, account, instance_types=TYPES) as cloud:
        offerings = await cloud.describe_offerings()
        traits = {each.instance_type: each.traits for each in offerings}
        assert (traits["m6id.large"].local_disks, traits["m6id.large"].local_disk_bytes) == (1, 118 * GB)
        assert traits["m7i.large"].store_bytes == 0 < traits["i4i.large"].store_bytes
        plain = choose(offerings, "10Gi")
        assert plain.offering.instance_type == "m7i.large" and "more of root volume" in plain.message
        named = choose(offerings, "80Gi", instance_type="m6id.large")
        assert "(its local disk of 109.9Gi for images and the pod's files)" in named.message
        said = look(moto, await cloud.launch(launch_of("named", named)))
        assert said == {"m6id.large": (20, {"instanceStore": {"leastBytes": 100 * GIB}})}
        less, more = (choose(offerings, storage, "12Gi") for storage in ("300Gi", "390Gi"))
        assert less.offering.instance_type == "r7i.large", "0.1323 and 0.0329 for the volume, against 0.172"
        assert more.offering.instance_type == "i4i.large", "0.1323 and 0.0427"


async def test_each_instance_of_a_fleet_has_the_root_volume_that_its_type_needs(
    cloud: AwsCloud, moto: MotoServer, account: Account
) -> None:
    async with started(moto, account, instance_types=TYPES) as other:
        offerings = [each for each in await other.describe_offerings() if each.zone == account.zones[0]]
    chosen = choose(offerings, "80Gi", instance_type="m6id.large, m7i.large")
    moto.plan(Plan(shortages=(Shortage(f"{chosen.offering.instance_type}/*", room=1),)))
    said = look(moto, await cloud.launch(launch_of("both", chosen, count=2)))
    hint = {"instanceStore": {"leastBytes": 100 * GIB}}
    assert said == {"m6id.large": (20, hint), "m7i.large": (100, hint)}
    assert moto.calls()["CreateFleet"] == 1


async def test_a_pod_or_the_settings_may_leave_the_disks_alone(moto: MotoServer, account: Account) -> None:
    async with started(moto, account, instance_types=TYPES) as cloud:
        chosen = choose(
            await cloud.describe_offerings(), "80Gi", instance_type="m6id.large", instance_store_policy="none"
        )
        assert chosen.options == {"instance-store-policy": "none"} and chosen.local_store is None
        assert look(moto, await cloud.launch(launch_of("pod", chosen))) == {"m6id.large": (100, {})}
    async with started(moto, account, instance_types=TYPES, instance_store_policy="none") as cloud:
        chosen = choose(await cloud.describe_offerings(), "80Gi", instance_type="m6id.large")
        assert look(moto, await cloud.launch(launch_of("settings", chosen))) == {"m6id.large": (100, {})}


async def test_the_same_launch_is_the_same_request_and_another_use_of_its_disks_is_another(
    cloud: AwsCloud, account: Account
) -> None:
    store = LocalStore(30 * GIB, 20 * GIB)
    first = request("same", offering(account), user_data=BOOT, local_store=store)
    answer = await cloud.launch(first)
    assert (await cloud.launch(first)).instances[0].instance_id == answer.instances[0].instance_id
    with pytest.raises(CloudRequestError, match="IdempotentParameterMismatch"):
        await cloud.launch(replace(first, local_store=replace(store, least_bytes=31 * GIB)))
