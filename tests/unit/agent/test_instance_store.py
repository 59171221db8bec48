"""The owner of a pod hears that the instance's own disks are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vk_provider.agent.instance_store import InstanceStoreReport
from vk_provider.agent.outbox import Outbox
from vk_provider.eventreasons import IMAGES_NOT_PREPARED, INSTANCE_STORE_UNAVAILABLE


def take_events(outbox: Outbox) -> list[Any]:
    return [dict(event) for event in outbox._events]


def test_a_failure_is_an_event_about_the_pod(tmp_path: Path) -> None:
    path, outbox = tmp_path / "instance-store", Outbox()
    path.write_text("failed: cannot join 2 disks\nmore\n")
    InstanceStoreReport(path, path.with_name("image-store"), outbox).tell("uid-1")
    (event,) = take_events(outbox)
    assert (event["podUID"], event["eventType"], event["reason"]) == ("uid-1", "Warning", INSTANCE_STORE_UNAVAILABLE)
    assert event["message"].endswith("are on its root volume: cannot join 2 disks")


@pytest.mark.parametrize("line", [None, "", "used: 1 disk(s), 5 bytes\n", "unused: there are no disks\n", "\xff\n"])
def test_all_else_is_none(tmp_path: Path, line: str | None) -> None:
    path, outbox = tmp_path / "instance-store", Outbox()
    if line is not None:
        path.write_bytes(line.encode("latin-1"))
    InstanceStoreReport(path, path.with_name("image-store"), outbox).tell("uid-1")
    assert take_events(outbox) == []


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    path, outbox = tmp_path / "instance-store", Outbox()
    path.write_text("failed: " + "x" * 10_000)
    InstanceStoreReport(path, path.with_name("image-store"), outbox).tell("uid-1")
    assert len(take_events(outbox)[0]["message"]) < 500


def test_prepared_images_that_cannot_be_used_are_an_event_of_their_own(tmp_path: Path) -> None:
    path, outbox = tmp_path / "image-store", Outbox()
    path.write_text("failed: cannot mount /dev/nvme1n1\n")
    InstanceStoreReport(tmp_path / "instance-store", path, outbox).tell("uid-1")
    (event,) = take_events(outbox)
    assert (event["eventType"], event["reason"]) == ("Warning", IMAGES_NOT_PREPARED)
    assert event["message"].endswith("it pulls them: cannot mount /dev/nvme1n1")
