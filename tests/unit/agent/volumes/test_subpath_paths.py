import os
import stat

import pytest

from vk_provider.agent.volumes.subpath import bind_sub_path, make_sub_path, read_inside, validate_sub_path


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/a", "error SubPath `/a` must not be an absolute path"),
        ("a/../b", "unable to provision SubPath `a/../b`: must not contain '..'"),
        ("..", "unable to provision SubPath `..`: must not contain '..'"),
    ],
)
def test_sub_paths_that_leave_the_volume_are_refused(path, message):
    with pytest.raises(ValueError) as caught:
        validate_sub_path(path)
    assert str(caught.value) == message
    validate_sub_path("a/..b/c")


def test_missing_directories_get_the_volumes_mode(tmp_path):
    tmp_path.chmod(0o2777)
    make_sub_path(tmp_path, "a/b")
    assert [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b")] == [0o2777, 0o2777]
    make_sub_path(tmp_path, "a/b")


def test_below_a_file_nothing_is_made_and_binding_is_what_fails(tmp_path):
    (tmp_path / "file").write_text("text")
    make_sub_path(tmp_path, "file/deeper/x")
    with pytest.raises(NotADirectoryError):
        bind_sub_path(tmp_path, "file/deeper/x", tmp_path / "target")
    assert (tmp_path / "file").read_text() == "text" and not (tmp_path / "target").exists()


def test_a_link_inside_the_volume_is_followed_and_one_that_leads_out_is_not(tmp_path):
    volume, outside = tmp_path / "v", tmp_path / "outside"
    (volume / "real").mkdir(parents=True)
    outside.mkdir()
    (volume / "in").symlink_to("real")
    (volume / "out").symlink_to(outside)
    make_sub_path(volume, "in/x")
    assert (volume / "real/x").is_dir()
    with pytest.raises(ValueError, match="outside"):
        make_sub_path(volume, "out/x")
    assert os.listdir(outside) == []


def test_a_file_is_read_only_from_within_the_volume(tmp_path):
    volume = tmp_path / "v"
    (volume / "d").mkdir(parents=True)
    (volume / "d/f").write_text("text")
    (volume / "link").symlink_to("d/f")
    (volume / "out").symlink_to("/etc/hostname")
    assert read_inside(volume, "d/f") == read_inside(volume, "link") == "text"
    with pytest.raises(ValueError, match="outside"):
        read_inside(volume, "out")
    with pytest.raises(FileNotFoundError):
        read_inside(volume, "nope")
