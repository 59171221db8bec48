"""A recorded history compares as the one it was recorded from."""

from pathlib import Path

from tests.differential.compare import compare
from tests.differential.grammar.generate import build
from tests.differential.recording import read_recording, write_recording
from tests.unit.differential.histories import OURS, THEIRS, add_event, container, history, pod


def test_a_recording_differs_from_another_history_in_the_same_as_its_original(tmp_path: Path) -> None:
    ours = history(OURS, (100.0, pod("u-1")), end=120.0)
    theirs = history(THEIRS, (50.0, pod("u-2", "10.0.0.9", "Running", container(waiting={"reason": "X"}))), end=70.0)
    for side in (ours, theirs):
        add_event(side, "Pulled", "image a:1/busybox present", at=side.versions[0].at)
    add_event(theirs, "Killing", "only there", at=51.0)
    theirs.answers = {"0 exec": {"code": 1}}
    case = build("n", "n", ("dns",))
    write_recording(tmp_path, case, theirs, "a:1")
    assert "a:1" not in (tmp_path / "n.json").read_text()
    read, recorded = read_recording(tmp_path / "n.json", "a:1")
    assert read == case
    assert compare(ours, recorded) == compare(ours, theirs) != []


def test_the_registry_of_another_cluster_takes_the_recorded_ones_place(tmp_path: Path) -> None:
    theirs = history(THEIRS, (50.0, pod("u-2")))
    add_event(theirs, "Pulled", "image a:1/busybox present")
    write_recording(tmp_path, build("n", "n", ("dns",)), theirs, "a:1")
    _, recorded = read_recording(tmp_path / "n.json", "b:2")
    assert [seen.event["message"] for seen in recorded.events.values()] == ["image b:2/busybox present"]
