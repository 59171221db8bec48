"""The contract's few rules."""

from __future__ import annotations

import pytest

from vk_provider.wire.bootdata import BootData
from vk_provider.wire.version import select_version


def test_boot_data_survives_the_round_trip() -> None:
    boot_data = BootData("pem", "00ff", registries={"r:5000": {"server": "http://r:5000", "plain_http": True}})
    assert BootData.from_user_data(boot_data.to_user_data()) == boot_data


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "BootData"}', "#cloud-config"])
def test_foreign_user_data_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        BootData.from_user_data(text)


def test_the_newest_common_version_is_chosen() -> None:
    assert select_version([1, 99]) == 1
    assert select_version([99]) is None
