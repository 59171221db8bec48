import os
import stat

import pytest

from vk_provider.agent.volumes.atomic import validate_path, write_files
from vk_provider.podmodel.projection import ProjectedFile


def files(**contents):
    return {path.replace("__", "/"): ProjectedFile(text.encode()) for path, text in contents.items()}


def visible(root):
    return {name for name in os.listdir(root) if not name.startswith("..")}


def stamped(root):
    return [name for name in os.listdir(root) if name.startswith("..2")]


def test_files_are_seen_through_the_data_link(tmp_path):
    assert write_files(tmp_path, files(a="1", d__e__f="2", d__g="3"))
    assert (tmp_path / "a").read_text() == "1" and (tmp_path / "d/e/f").read_text() == "2"
    assert os.readlink(tmp_path / "a") == "..data/a" and os.readlink(tmp_path / "d") == "..data/d"
    assert [os.readlink(tmp_path / "..data")] == stamped(tmp_path)
    assert stat.S_IMODE((tmp_path / "..data").stat().st_mode) == 0o755


def test_an_equal_set_is_not_written_again(tmp_path):
    write_files(tmp_path, files(a="1", d__b="2"))
    before = os.readlink(tmp_path / "..data")
    assert not write_files(tmp_path, files(a="1", d__b="2"))
    assert os.readlink(tmp_path / "..data") == before


@pytest.mark.parametrize("new", [{"a": "2"}, {"a": "1", "c": "3"}, {"d__b": "2"}, {}])
def test_a_changed_set_replaces_the_old_one_whole(tmp_path, new):
    write_files(tmp_path, files(a="1", d__b="2"))
    before = os.readlink(tmp_path / "..data")
    assert write_files(tmp_path, files(**new))
    assert os.readlink(tmp_path / "..data") != before and len(stamped(tmp_path)) == 1
    assert visible(tmp_path) == {path.split("__")[0] for path in new}
    for path, text in new.items():
        assert (tmp_path / path.replace("__", "/")).read_text() == text


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path):
    write_files(tmp_path, files(a="old"))
    with (tmp_path / "a").open() as reader:
        write_files(tmp_path, files(a="new"))
        assert reader.read() == "old"


def test_modes_are_exact_whatever_the_umask(tmp_path):
    umask = os.umask(0o077)
    try:
        write_files(tmp_path, {"a": ProjectedFile(b"", 0o666), "b": ProjectedFile(b"", 0o400)})
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o666, 0o400]


def test_a_failure_before_the_switch_leaves_the_old_set(tmp_path):
    write_files(tmp_path, files(a="1"))

    def fail():
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write_files(tmp_path, files(a="2"), fail)
    assert (tmp_path / "a").read_text() == "1" and len(stamped(tmp_path)) == 1


def test_what_a_crash_left_of_a_switch_does_not_hinder_the_next(tmp_path):
    write_files(tmp_path, files(a="1"))
    (tmp_path / "..data_tmp").symlink_to("..nowhere")
    assert write_files(tmp_path, files(a="2"))
    assert (tmp_path / "a").read_text() == "2" and not os.path.lexists(tmp_path / "..data_tmp")


def test_visible_names_that_a_crash_or_a_full_disk_prevented_are_made_by_the_next(tmp_path):
    calls = []
    write_files(tmp_path, files(a="1", d__b="2"))
    for name in ("a", "d"):
        (tmp_path / name).unlink()
    assert write_files(tmp_path, files(a="1", d__b="2"), lambda: calls.append(visible(tmp_path)))
    assert (tmp_path / "a").read_text() == "1" and (tmp_path / "d/b").read_text() == "2"
    assert calls == [{"a", "d"}]


def test_sets_and_names_that_a_crash_left_behind_are_removed_by_the_next(tmp_path):
    write_files(tmp_path, files(a="1"))
    (tmp_path / "..2026_01_02_03_04_05.6").mkdir()
    (tmp_path / "..2026_01_02_03_04_05.6" / "old").write_text("")
    (tmp_path / "old").symlink_to("..data/old")
    (tmp_path / "other").symlink_to("elsewhere")
    assert not write_files(tmp_path, files(a="1"))
    assert len(stamped(tmp_path)) == 1 and visible(tmp_path) == {"a", "other"}
    assert (tmp_path / "a").read_text() == "1"


def test_directories_made_for_nested_mounts_stay(tmp_path):
    (tmp_path / "nested").mkdir()
    write_files(tmp_path, files(a="1"))
    write_files(tmp_path, files(b="1"))
    assert (tmp_path / "nested").is_dir() and visible(tmp_path) == {"b", "nested"}


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "..a", "a" * 256, "a/" * 2049])
def test_paths_that_could_leave_the_volume_are_refused(path):
    with pytest.raises(ValueError, match="invalid path"):
        validate_path(path)


@pytest.mark.parametrize(("path", "clean"), [("a", "a"), ("a//b/./c", "a/b/c"), ("a/..b", "a/..b"), (".a", ".a")])
def test_other_paths_are_cleaned(path, clean):
    assert validate_path(path) == clean
