"""The table of `vk-provider instances`."""

from __future__ import annotations

import pytest

from vk_provider.instancerows import InstanceRow, render_instances
from vk_provider.rfc3339 import parse_time

NOW = parse_time("2026-01-03T00:00:00Z")


def row(**more: object) -> InstanceRow:
    made: dict[str, object] = {
        "instance": "i-0123456789abcdef0",
        "type": "m7gd.2xlarge",
        "zone": "eu-central-1a",
        "capacity": "on-demand",
        "state": "running",
        "stage": "assigned",
        "since": "2026-01-01T00:00:00Z",
        "usdPerHour": 0.1234,
        "diskUsdPerHour": 0.0022,
        "rootGiB": 20,
        "storeGiB": 441,
        "dataGiB": 0,
        "pool": "",
        "namespace": "shop",
        "pod": "frontend-7d9f8b6c5d-x2x4z",
        "witness": "agent",
        **more,
    }
    return made  # type: ignore[return-value]


POOL = row(state="stopped", stage="stopped", pool="web", namespace="", pod="", witness="listing", usdPerHour=0.0022)
OLD = row(rootGiB=None, dataGiB=None, diskUsdPerHour=None, usdPerHour=None, storeGiB=0, stage="")


def test_a_spare_instance_names_its_pool_and_whether_it_runs() -> None:
    idle = row(stage="idle", pool="web", namespace="", pod="")
    taken = row(pool="web")
    lines = render_instances([POOL, idle, taken], NOW, is_wide=False, width=0).splitlines()[1:]
    assert ["pool web" in line for line in lines] == [True, True, False]
    assert [line.split()[2] for line in lines] == ["stopped", "idle", "assigned"]
    assert "shop/frontend-7d9f8b6c5d-x2x4z" in lines[2]


def test_the_wide_table_has_disks_prices_and_the_witness() -> None:
    head, first, second, third = render_instances([row(), POOL, OLD], NOW, is_wide=True, width=0).splitlines()
    assert head.split()[:8] == ["INSTANCE", "TYPE", "ZONE", "CAPACITY", "STATE", "FOR", "WITNESS", "AGE"]
    assert first.split()[6:] == ["agent", "2d", "20/441/-", "0.0022", "0.1234"]
    assert second.split()[-5:] == ["listing", "2d", "20/441/-", "0.0022", "0.0022"]
    assert third.split()[-3:] == ["-/-/-", "-", "-"] and third.split()[4] == "running"


@pytest.mark.parametrize(("is_wide", "width"), [(False, 80), (True, 140), (True, 200)])
def test_columns_are_aligned_and_fit_the_terminal(is_wide: bool, width: int) -> None:
    long = row(pod="p" * 200 + "-x2x4z", namespace="n" * 63)
    lines = render_instances([row(), long, POOL, OLD], NOW, is_wide=is_wide, width=width).splitlines()
    assert max(map(len, lines)) <= width
    place = lines[0].index("FOR")
    assert all(line[place - 2 : place] == "  " and line[place] != " " for line in lines)
    assert lines[2].split()[5 if is_wide else 3].endswith("-x2x4z"), "what tells the pods of a controller apart"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_a_name_moves_no_cursor_and_a_narrow_terminal_keeps_something_of_it() -> None:
    text = render_instances([row(pod="a\x1b[2J\nb", since="soon")], NOW, is_wide=False, width=20)
    assert "\x1b" not in text and len(text.splitlines()) == 2
    assert "shop" in text
