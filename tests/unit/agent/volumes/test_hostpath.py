import socket
import stat

import pytest

from vk_provider.agent.volumes.hostpath import set_up_host_path


@pytest.fixture
def places(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dir", "Directory"),
        ("dir", "DirectoryOrCreate"),
        ("file", "File"),
        ("file", "FileOrCreate"),
        ("sock", "Socket"),
        ("missing", ""),
        ("dir", ""),
    ],
)
def test_a_matching_path_is_accepted(places, name, kind):
    set_up_host_path({"path": str(places / name), "type": kind})


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("file", "Directory", "hostPath type check failed: {} is not a directory, it's a file"),
        ("dir", "File", "hostPath type check failed: {} is not a file, it's a directory"),
        ("file", "Socket", "hostPath type check failed: {} is not a socket file, it's a file"),
        ("dir", "CharDevice", "hostPath type check failed: {} is not a character device, it's a directory"),
        ("sock", "BlockDevice", "hostPath type check failed: {} is not a block device, it's a socket"),
        (
            "missing",
            "Directory",
            "hostPath type check failed, {} is not a directory, unable to determine its type: "
            "No such file or directory",
        ),
        ("file", "DirectoryOrCreate", "hostPath type check failed: {} is not a directory, it's a file"),
        ("dir", "Odd", "Odd is an invalid volume type"),
    ],
)
def test_another_kind_of_file_is_refused_in_the_kubelets_words(places, name, kind, message):
    path = str(places / name)
    with pytest.raises(ValueError) as caught:
        set_up_host_path({"path": path, "type": kind})
    assert str(caught.value) == message.format(path)


def test_devices_are_recognised():
    set_up_host_path({"path": "/dev/null", "type": "CharDevice"})


def test_missing_directories_and_files_are_created_when_asked_for(tmp_path):
    set_up_host_path({"path": str(tmp_path / "a/b"), "type": "DirectoryOrCreate"})
    set_up_host_path({"path": str(tmp_path / "a/b/f"), "type": "FileOrCreate"})
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a/b/f").stat().st_mode) == 0o644


def test_a_path_with_backsteps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must not contain"):
        set_up_host_path({"path": f"{tmp_path}/../x"})
