"""What network disks may be, and what they cost beyond their size."""

from __future__ import annotations

import pytest

from vk_provider.cloud.aws.diskprices import HOURS_A_MONTH, build_rates, describe_prices, price_snapshot
from vk_provider.cloud.aws.diskpricesettings import DiskPriceSettings
from vk_provider.cloud.aws.options import read_options
from vk_provider.cloud.aws.settings import AwsCloudSettings, find_problem
from vk_provider.cloud.aws.stores.settings import ImageStoreSettings
from vk_provider.cloud.aws.volumetypes import GP3
from vk_provider.cloud.base import MachineTraits
from vk_provider.cloud.disks import GIB, Disks, read_disks, write_disks
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.volumes import RootVolumes, VolumeSpeed
from vk_provider.errors import CloudRequestError

PLAIN = AwsCloudSettings(subnets=("subnet-0000000a",), image_amd64="ami-00000001")


@pytest.mark.parametrize(
    ("iops", "mib_s", "problem"),
    [
        (3000, 125, ""),
        (3000, 750, ""),
        (3000, 751, "751 MiB/s need 3004 IOPS, and it has 3000"),
        (8000, 2000, ""),
        (7999, 2000, "need 8000 IOPS"),
        (80001, 125, "3000 to 80000 IOPS, not 80001"),
        (3000, 124, "125 to 2000 MiB/s, not 124"),
    ],
)
def test_a_volume_is_as_fast_as_its_type_allows(iops: int, mib_s: int, problem: str) -> None:
    found = GP3.find_problem(iops, mib_s)
    assert problem in found and bool(found) is bool(problem)


def test_who_asks_for_one_of_both_has_the_other_of_the_settings() -> None:
    volumes = RootVolumes(GP3, VolumeSpeed(4000, 125))
    assert volumes.find_problem(VolumeSpeed(mib_s=1000)) == "" != volumes.find_problem(VolumeSpeed(mib_s=1001))
    assert volumes.find_problem(VolumeSpeed(iops=5000, mib_s=1250)) == ""


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"root_volume_throughput": 1000}, "root_volume_throughput, root_volume_iops: a gp3 volume has at most 0.25"),
        ({"root_volume_throughput": 1000, "root_volume_iops": 4000}, ""),
        ({"image_stores": ImageStoreSettings(throughput=800)}, "image_stores.throughput, image_stores.iops: "),
        ({"image_stores": ImageStoreSettings(initialization_rate=99)}, "image_stores.initialization_rate 99 must be 0"),
        ({"image_stores": ImageStoreSettings(initialization_rate=100)}, ""),
    ],
)
def test_settings_with_which_ec2_refuses_every_launch_are_refused(changed: dict[str, object], problem: str) -> None:
    found = find_problem(AwsCloudSettings(subnets=PLAIN.subnets, image_amd64=PLAIN.image_amd64, **changed))  # type: ignore[arg-type]
    assert found.startswith(problem) and bool(found) is bool(problem)


def test_a_launch_with_such_options_is_refused_before_ec2_is_asked() -> None:
    assert read_options({"root-volume-throughput": "750"}, PLAIN).throughput == 750
    with pytest.raises(CloudRequestError, match="800 MiB/s need 3200 IOPS"):
        read_options({"root-volume-throughput": "800"}, PLAIN)
    assert read_options({"root-volume-throughput": "800", "root-volume-iops": "3200"}, PLAIN).iops == 3200


def test_speeds_are_written_down_and_read_back_where_they_are_beyond_what_every_disk_has() -> None:
    root, data = VolumeSpeed(4000, 250), VolumeSpeed(0, 300)
    text = write_disks(20 * GIB, None, data_gib=8, speeds=(root, data))
    check_tags({"k": text})
    assert text == "root=20 data=8 root-iops=4000 root-mib-s=250 data-mib-s=300"
    assert read_disks(text, 0) == Disks(20, 8, root, data)
    assert "iops" not in write_disks(20 * GIB, None, data_gib=8)


def test_disks_cost_their_size_and_what_is_provisioned_beyond_every_disks_own() -> None:
    settings = AwsCloudSettings(disk_prices=DiskPriceSettings(iops=0.005, throughput=0.04))
    traits = MachineTraits(root_price_per_gib=0.08 / HOURS_A_MONTH, volume_rates=build_rates(settings))
    slow, fast = Disks(20, 8), Disks(20, 8, VolumeSpeed(4000, 250), VolumeSpeed(0, 225))
    assert slow.compute_price(traits) * HOURS_A_MONTH == pytest.approx(28 * 0.08)
    expected = 28 * 0.08 + 1000 * 0.005 + 125 * 0.04 + 100 * 0.04
    assert fast.compute_price(traits) * HOURS_A_MONTH == pytest.approx(expected)


def test_a_stores_disk_and_its_snapshot_have_a_price() -> None:
    stores = ImageStoreSettings(enabled=True, volume_gib=4, iops=4000, throughput=225)
    settings = AwsCloudSettings(image_stores=stores)
    assert build_rates(settings).store_price * HOURS_A_MONTH == pytest.approx(8 * 0.08 + 1000 * 0.005 + 100 * 0.04)
    assert build_rates(AwsCloudSettings()).store_price == 0.0
    assert price_snapshot(settings, 3 * GIB) * HOURS_A_MONTH == pytest.approx(0.15)


def test_whose_word_the_prices_of_disks_are_is_told() -> None:
    assert "us-east-1" in describe_prices(AwsCloudSettings())
    own = describe_prices(AwsCloudSettings(disk_prices=DiskPriceSettings(snapshot=0.06)))
    assert "snapshots 0.06 a GiB (cloud.aws.root_volume_price and cloud.aws.disk_prices)" in own
