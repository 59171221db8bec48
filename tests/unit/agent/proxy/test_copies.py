"""What is kept of a table for mending it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from vk_provider.agent.proxy.copies import TableCopy


def frontend(port: int, *serving: str) -> Any:
    return {"family": 4, "address": "10.96.0.10", "port": port, "serving": list(serving)}


@pytest.fixture
def copy(tmp_path: Path) -> TableCopy:
    made = TableCopy(tmp_path / "tables" / "services.copy")
    made.replace("::1", "whole\n", [frontend(53, "10.1.0.1 . 53"), frontend(54)], ["192.0.2.1"])
    return made


def again(copy: TableCopy, revision: str) -> TableCopy:
    """The next agent's."""
    made = TableCopy(copy._path)
    made.load(revision)
    return made


def test_the_texts_follow_each_other_and_the_newest_word_about_a_frontend_counts(copy: TableCopy) -> None:
    copy.append("::1", "::2", "first\n", [frontend(53, "10.1.0.2 . 53")])
    copy.append("::2", "::3", "second\n", [])
    assert copy.revision == "::3" and copy.node_addresses == ("192.0.2.1",)
    mended = copy.read()
    assert mended.texts == ["whole\n", "first\n", "second\n"]
    assert mended.udp == [frontend(53, "10.1.0.2 . 53"), frontend(54)]


def test_a_whole_text_begins_anew(copy: TableCopy) -> None:
    copy.append("::1", "::2", "first\n", [])
    copy.replace("::9", "other\n", [], [])
    assert (copy.read().texts, copy.revision, copy.node_addresses) == (["other\n"], "::9", ())


def test_the_next_agent_takes_it_over_when_it_makes_what_is_in_force(copy: TableCopy) -> None:
    copy.append("::1", "::2", "first\n", [])
    next_one = again(copy, "::2")
    next_one.append("::2", "::3", "second\n", [])
    assert next_one.read().texts == ["whole\n", "first\n", "second\n"] and next_one.node_addresses == ("192.0.2.1",)


@pytest.mark.parametrize("in_force", ["", "::1", "::7"])
def test_a_copy_of_something_else_is_removed(copy: TableCopy, in_force: str) -> None:
    copy.append("::1", "::2", "first\n", [])
    for _ in range(2):  # the agent after that one does not take it for a copy, either
        next_one = again(copy, in_force)
        assert next_one.revision == "" and copy._path.stat().st_size < 150
        assert next_one.node_addresses == ("192.0.2.1",)  # they change rarely
    next_one.replace("::9", "other\n", [], [])
    assert again(copy, "::9").read().texts == ["other\n"]
    assert again(copy, in_force).node_addresses == () and not copy._path.exists()


def test_a_file_that_ends_early_or_is_something_else_is_no_copy(copy: TableCopy) -> None:
    data = copy._path.read_bytes()
    for spoilt in (data[:-1], data[:5], data + b"\0", b"\0" * 100, b"{}"):
        copy._path.write_bytes(spoilt)
        next_one = again(copy, "::1")
        assert next_one.revision == "" and next_one.node_addresses == (("192.0.2.1",) if spoilt[:-1] == data else ())
    copy._path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError):
        again(copy, "::1").read()


def test_a_difference_to_another_revision_ends_it(copy: TableCopy) -> None:
    copy.append("::5", "::6", "first\n", [])
    assert copy.revision == "" and again(copy, "::6").revision == ""


def test_it_does_not_grow_without_end(copy: TableCopy) -> None:
    noise = random.Random(1).randbytes(200_000).hex()
    for n in range(1, 12):
        copy.append(f"::{n}", f"::{n + 1}", noise, [])
    assert copy.revision == "" and copy._path.stat().st_size < 150
    assert again(copy, "::12").node_addresses == ("192.0.2.1",)


def test_a_disk_without_room_costs_the_copy_alone(copy: TableCopy, tmp_path: Path) -> None:
    full = TableCopy(Path("/dev/full/services.copy"))
    full.replace("::1", "whole\n", [], [])
    assert full.revision == ""
    full.append("::1", "::2", "first\n", [])
    assert full.revision == ""
