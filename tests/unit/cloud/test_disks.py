"""The tag with the sizes of an instance's disks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vk_provider.cloud.base import LocalStore
from vk_provider.cloud.disks import GIB, MAX_GIB, Disks, read_disks, write_disks
from vk_provider.cloud.tags import check_tags

SIZES = st.integers(1, MAX_GIB * GIB)


@given(SIZES, st.none() | st.builds(LocalStore, SIZES, SIZES), st.integers(0, 2**50))
def test_what_was_written_says_the_size_of_each_type(disk: int, store: LocalStore | None, holds: int) -> None:
    text = write_disks(disk, store)
    check_tags({"k": text})
    smaller = store is not None and holds >= store.least_bytes
    expected = store.root_disk_bytes if smaller and store is not None else disk
    assert read_disks(text, holds) == Disks(-(-expected // GIB))


def test_a_cloud_makes_its_own_sizes_of_bytes() -> None:
    assert write_disks(1, None, lambda size: 8) == "root=8"
    assert write_disks(100 * GIB, LocalStore(5, 20 * GIB)) == "root=100 store=5 root-with-store=20"


def test_a_data_disk_stands_beside_the_root_disk() -> None:
    disks = read_disks("root=20 data=30", 0)
    assert disks == Disks(20, 30) and disks.total_gib == 50


@pytest.mark.parametrize(
    "text",
    ["", "20", "root=", "root=-1", "root=1e9", "root=²", "root=9" + "9" * 20, f"root={MAX_GIB + 1}", "data=1",
     "root=1 store=2", "root=1 colour=2", "root=1 data=99999999"],
)  # fmt: skip
def test_what_is_none_of_ours_is_not_known(text: str) -> None:
    assert read_disks(text, 10**15) is None
