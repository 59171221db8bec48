import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.agent.volumes.nested import find_nested_mount_points, make_nested_mount_points


def mount(name, path, **more):
    return {"name": name, "mountPath": path, **more}


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([mount("v", "/a")], []),
        ([mount("v", "/a"), mount("w", "/a/b")], ["b"]),
        ([mount("v", "/a"), mount("w", "/ab")], []),
        ([mount("v", "/a"), mount("w", "/a/b"), mount("x", "/a/b/c"), mount("y", "/a/d/e")], ["b", "d/e"]),
        ([mount("v", "/a", subPath="s"), mount("w", "/a/b")], ["s/b"]),
        ([mount("v", "/a/"), mount("w", "/a/b/")], ["b"]),
        ([mount("v", "/"), mount("w", "/etc/x")], ["etc/x"]),
    ],
)
def test_the_outermost_mounts_beneath_a_volume_are_found(mounts, expected):
    assert find_nested_mount_points(make_pod({"name": "c", "volumeMounts": mounts}), "v") == expected


def test_the_directories_are_made_and_none_outside(tmp_path):
    pod = make_pod({"name": "c", "volumeMounts": [mount("v", "/a"), mount("w", "/a/b/c")]})
    make_nested_mount_points(pod, "v", tmp_path)
    assert (tmp_path / "b/c").is_dir()
