import os
import socket
import stat

import pytest

from vk_provider.agent.volumes.errors import VolumeErrors
from vk_provider.agent.volumes.hostpath import set_up_host_path
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.podmodel.context import PodContext


@pytest.fixture
def places(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    os.mkfifo(tmp_path / "pipe")
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
        ("file", "Directory", "hostPath type check failed: {} is not a directory, it's a File"),
        ("dir", "File", "hostPath type check failed: {} is not a file, it's a Directory"),
        ("file", "Socket", "hostPath type check failed: {} is not a socket file, it's a File"),
        ("dir", "CharDevice", "hostPath type check failed: {} is not a character device, it's a Directory"),
        ("sock", "BlockDevice", "hostPath type check failed: {} is not a block device, it's a Socket"),
        (
            "missing",
            "Directory",
            'hostPath type check failed, {} is not a directory, unable to determine its type: path "{}" does not exist',
        ),
        ("file", "DirectoryOrCreate", "hostPath type check failed: {} is not a directory, it's a File"),
        (
            "missing",
            "File",
            'hostPath type check failed, {} is not a file, unable to determine its type: path "{}" does not exist',
        ),
        (
            "dangling",
            "Socket",
            "hostPath type check failed, {} is not a socket file, unable to determine its type: "
            'path "{}" does not exist',
        ),
        (
            "file/x",
            "Directory",
            "hostPath type check failed, {} is not a directory, unable to determine its type: stat {}: not a directory",
        ),
        (
            "pipe",
            "File",
            "hostPath type check failed, {} is not a file, unable to determine its type: "
            "only recognise file, directory, socket, block device and character device",
        ),
        ("no/such/f", "FileOrCreate", "open {}: no such file or directory"),
        ("file/f", "FileOrCreate", "open {}: not a directory"),
        ("n" * 256, "FileOrCreate", "open {}: file name too long"),
        ("n" * 256, "DirectoryOrCreate", "mkdir {}: file name too long"),
        ("file/d", "DirectoryOrCreate", "mkdir {parent}: not a directory"),
        ("file/d/e", "DirectoryOrCreate", "mkdir {root}/file: not a directory"),
        ("dir/" + "n" * 256 + "/x", "DirectoryOrCreate", "mkdir {parent}: file name too long"),
        ("dir", "Odd", "Odd is an invalid volume type"),
    ],
)
def test_another_kind_of_file_is_refused_in_the_kubelets_words(places, name, kind, message):
    path = str(places / name)
    with pytest.raises(ValueError) as caught:
        set_up_host_path({"path": path, "type": kind})
    assert str(caught.value) == message.format(path, path, parent=os.path.dirname(path), root=places)


def test_devices_are_recognised():
    set_up_host_path({"path": "/dev/null", "type": "CharDevice"})
    with pytest.raises(ValueError) as caught:
        set_up_host_path({"path": "/dev/null", "type": "BlockDevice"})
    assert str(caught.value) == "hostPath type check failed: /dev/null is not a block device, it's a CharDevice"


@pytest.mark.parametrize("name", ["dangling", "dangling/x"])
def test_a_link_to_nowhere_in_the_way_of_a_directory_is_left_to_the_runtime(places, name):
    """makeDir takes EEXIST for success, and what was made is not checked."""
    set_up_host_path({"path": str(places / name), "type": "DirectoryOrCreate"})
    assert not (places / name).is_dir()


def test_a_file_is_created_where_a_link_leads(places):
    (places / "link").symlink_to(places / "target")
    set_up_host_path({"path": str(places / "link"), "type": "FileOrCreate"})
    assert (places / "target").is_file()


@pytest.mark.parametrize("kind", ["File", "FileOrCreate", "Directory", "DirectoryOrCreate"])
async def test_every_volume_that_fails_has_an_error_of_its_own(tmp_path, places, kind):
    volumes = PodVolumes(tmp_path / "kubelet")
    other = "dir" if kind.startswith("File") else "file"
    wrong = [
        {"name": name, "hostPath": {"path": str(places / path), "type": of}}
        for name, path, of in (("a", other, kind), ("ok", "dir", "Directory"), ("b", "pipe", kind))
    ]
    pod = {"metadata": {"uid": "u"}, "spec": {"volumes": wrong, "containers": []}}
    with pytest.raises(VolumeErrors) as caught:
        await volumes.set_up(pod, {}, PodContext())
    texts = [str(error) for error in caught.value.errors]
    assert [text.partition(" : ")[0] for text in texts] == [
        f'MountVolume.SetUp failed for volume "{name}"' for name in "ab"
    ]
    assert {error.reason for error in caught.value.errors} == {"FailedMount"}
    assert volumes.host_path("ok") == str(places / "dir")


def test_missing_directories_and_files_are_created_when_asked_for(tmp_path):
    set_up_host_path({"path": str(tmp_path / "a/b"), "type": "DirectoryOrCreate"})
    set_up_host_path({"path": str(tmp_path / "a/b/f"), "type": "FileOrCreate"})
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a/b/f").stat().st_mode) == 0o644


def test_a_path_with_backsteps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must not contain"):
        set_up_host_path({"path": f"{tmp_path}/../x"})
