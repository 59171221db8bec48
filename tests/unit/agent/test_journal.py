"""The journal: atomic, private, newest wins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vk_provider.agent.journal import Journal


def test_a_new_journal_is_empty_and_keeps_what_was_saved(tmp_path: Path):
    journal = Journal(tmp_path / "state" / "journal.json")
    assert journal.load() == {}
    journal.save({"pod": {"metadata": {"uid": "u"}}})
    journal.save({"pod": {"metadata": {"uid": "v"}}})
    assert Journal(tmp_path / "state" / "journal.json").load() == {"pod": {"metadata": {"uid": "v"}}}


def test_only_root_reads_it_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "state" / "journal.json"
    Journal(path).save({"secret": "s"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["journal.json"]


@pytest.mark.parametrize("content", [b"", b'{"pod":', b"[]", b"\xff"])
def test_a_damaged_journal_is_as_good_as_none(tmp_path: Path, content: bytes):
    path = tmp_path / "journal.json"
    path.write_bytes(content)
    assert Journal(path).load() == {}


async def test_an_older_save_never_overwrites_a_newer_one(tmp_path: Path):
    journal = Journal(tmp_path / "journal.json")
    saves = [asyncio.create_task(journal.save_async({"number": number})) for number in range(20)]
    await asyncio.sleep(0)
    journal.save({"number": 20})
    await asyncio.gather(*saves)
    assert journal.load() == {"number": 20}


def test_a_crash_while_writing_leaves_the_old_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path / "journal.json")
    journal.save({"number": 1})

    def crash(*_: object) -> None:
        raise OSError("no power")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(OSError, match="no power"):
        journal.save({"number": 2})
    monkeypatch.undo()
    assert journal.load() == {"number": 1}
