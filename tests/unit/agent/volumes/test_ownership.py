import os
import stat

import pytest

from vk_provider.agent.volumes.ownership import apply_fs_group


def tree(root):
    (root / "d").mkdir(mode=0o700)
    (root / "d/f").write_text("x")
    (root / "d/f").chmod(0o600)
    (root / "l").symlink_to("d/f")
    (root / "out").symlink_to("/etc/hostname")


def facts(path):
    found = os.lstat(path)
    return found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.parametrize(("read_only", "file_mode", "directory_mode"), [(False, 0o660, 0o2770), (True, 0o640, 0o2750)])
def test_everything_is_given_to_the_group(tmp_path, read_only, file_mode, directory_mode):
    tree(tmp_path)
    outside = facts("/etc/hostname")
    apply_fs_group(tmp_path, 4711, read_only)
    assert facts(tmp_path / "d/f") == (4711, file_mode)
    assert facts(tmp_path / "d") == (4711, directory_mode)
    assert facts(tmp_path)[0] == 4711 and facts(tmp_path)[1] & stat.S_ISGID
    assert facts(tmp_path / "l")[0] == 4711
    assert facts("/etc/hostname") == outside


def test_without_a_group_nothing_changes(tmp_path):
    tree(tmp_path)
    before = facts(tmp_path / "d/f")
    apply_fs_group(tmp_path, None, False)
    assert facts(tmp_path / "d/f") == before


def test_on_root_mismatch_looks_at_the_root_only(tmp_path):
    apply_fs_group(tmp_path, 4711, False, "OnRootMismatch")
    (tmp_path / "new").write_text("x")
    (tmp_path / "new").chmod(0o600)
    apply_fs_group(tmp_path, 4711, False, "OnRootMismatch")
    assert facts(tmp_path / "new")[1] == 0o600
    apply_fs_group(tmp_path, 4711, False, "Always")
    assert facts(tmp_path / "new") == (4711, 0o660)
