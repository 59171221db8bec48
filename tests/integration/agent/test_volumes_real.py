"""Volumes with real mounts, as root, in a directory of the test."""

# ruff: noqa: ASYNC230, ASYNC240 - a test may look at files while its event loop waits

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

import pytest

from tests.unit.podmodel.builders import CONTEXT, b64, make_pod
from vk_provider.agent.volumes import mountpoint
from vk_provider.agent.volumes.errors import VolumeError
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.podmodel.errors import ContainerConfigError

pytestmark = pytest.mark.real


@pytest.fixture
def root(tmp_path):
    yield tmp_path / "kubelet"
    mountpoint.unmount_below(tmp_path)


@pytest.fixture
def volumes(root):
    return PodVolumes(root)


def references(color="red", token="jwt-1", **more):
    return {
        "configMaps": {"cm": {"data": {"color": color, "other": "x"}}},
        "secrets": {"s": {"data": {"password": b64("geheim")}}},
        "tokens": {"|3607": {"token": token, "expirationTimestamp": ""}},
        "errors": {},
        **more,
    }


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def fs_type(path):
    return [entry.fs_type for entry in mountpoint.list_mounts(Path(path)) if entry.path == str(path)]


TOKEN = {
    "name": "token",
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "cm", "items": [{"key": "other", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}
CONFIG = {"name": "config", "configMap": {"name": "cm", "defaultMode": 420}}
SECRET = {"name": "secret", "secret": {"secretName": "s", "defaultMode": 256}}
LABELS = {
    "name": "labels",
    "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
}
CACHE = {"name": "cache", "emptyDir": {}}
MEMORY = {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def container(*mounts, **more):
    return {"name": "c", "volumeMounts": list(mounts), **more}


def at(name, path="/v", **more):
    return {"name": name, "mountPath": path, **more}


async def test_every_kind_of_volume_is_where_a_kubelet_puts_it(volumes, root):
    host = {"name": "host", "hostPath": {"path": str(root / "data"), "type": "DirectoryOrCreate"}}
    pod = make_pod(volumes=[TOKEN, CONFIG, SECRET, LABELS, CACHE, MEMORY, host], metadata={"labels": {"a": "b"}})
    await volumes.set_up(pod, references(), CONTEXT)
    base = root / "pods/u-1/volumes"
    paths = volumes.host_paths()
    assert paths == {
        "token": f"{base}/kubernetes.io~projected/token",
        "config": f"{base}/kubernetes.io~configmap/config",
        "secret": f"{base}/kubernetes.io~secret/secret",
        "labels": f"{base}/kubernetes.io~downward-api/labels",
        "cache": f"{base}/kubernetes.io~empty-dir/cache",
        "memory": f"{base}/kubernetes.io~empty-dir/memory",
        "host": str(root / "data"),
    }
    assert {name for name, path in paths.items() if fs_type(path) == ["tmpfs"]} == {
        "token",
        "secret",
        "labels",
        "memory",
    }
    assert {name: mode(paths[name]) for name in paths if name != "host"} == {
        **dict.fromkeys(("token", "config", "secret", "labels", "cache"), 0o777),
        "memory": 0o1777,  # of a fresh tmpfs
    }
    assert Path(paths["secret"], "password").read_text() == "geheim" and mode(f"{paths['secret']}/password") == 0o400
    assert {name: Path(paths["token"], name).read_text() for name in ("token", "ca.crt", "namespace")} == {
        "token": "jwt-1",
        "ca.crt": "x",
        "namespace": "shop",
    }
    assert Path(paths["labels"], "labels").read_text() == 'a="b"'
    size = os.statvfs(paths["memory"])
    assert size.f_blocks * size.f_frsize == 1 << 20


async def test_set_up_again_changes_nothing_and_survives_a_restart_of_the_agent(volumes, root):
    pod = make_pod(volumes=[CACHE, MEMORY, SECRET, CONFIG])
    await volumes.set_up(pod, references(), CONTEXT)
    paths = volumes.host_paths()
    for name in ("cache", "memory"):
        Path(paths[name], "mine").write_text("data")
        os.chmod(paths[name], 0o700)
    data = os.readlink(f"{paths['secret']}/..data")
    mounts = mountpoint.list_mounts(root)
    for each in (volumes, PodVolumes(root)):
        await each.set_up(pod, references(), CONTEXT)
        assert each.host_paths() == paths
        assert mountpoint.list_mounts(root) == mounts
        assert Path(paths["memory"], "mine").read_text() == Path(paths["cache"], "mine").read_text() == "data"
        assert mode(paths["cache"]) == 0o700
        assert os.readlink(f"{paths['secret']}/..data") == data


async def test_changed_references_reach_the_files(volumes):
    pod = make_pod(volumes=[CONFIG, TOKEN])
    await volumes.set_up(pod, references(), CONTEXT)
    config, token = volumes.host_path("config"), volumes.host_path("token")
    await volumes.refresh(pod, references(color="blue", token="jwt-2"), CONTEXT)
    assert Path(config, "color").read_text() == "blue" and Path(token, "token").read_text() == "jwt-2"
    gone = references(configMaps={"cm": None})
    with pytest.raises(VolumeError, match='MountVolume.SetUp failed for volume "config" : configmap "cm" not found'):
        await volumes.refresh(pod, gone, CONTEXT)
    assert Path(config, "color").read_text() == "blue"


async def test_changed_labels_reach_a_downward_api_volume(volumes):
    pod = make_pod(volumes=[LABELS], metadata={"labels": {"a": "b"}})
    await volumes.set_up(pod, references(), CONTEXT)
    pod["metadata"]["labels"]["a"] = "c"
    await volumes.refresh(pod, references(), CONTEXT)
    assert Path(volumes.host_path("labels"), "labels").read_text() == 'a="c"'


async def test_a_missing_object_fails_its_volume_and_the_others_are_set_up(volumes):
    pod = make_pod(volumes=[{"name": "bad", "secret": {"secretName": "nope"}}, CACHE])
    with pytest.raises(VolumeError) as caught:
        await volumes.set_up(pod, references(secrets={"nope": None}), CONTEXT)
    assert str(caught.value) == 'MountVolume.SetUp failed for volume "bad" : secret "nope" not found'
    assert caught.value.reason == "FailedMount"
    assert volumes.host_path("cache") and volumes.host_path("bad") is None
    await volumes.set_up(pod, references(secrets={"nope": {"data": {}}}), CONTEXT)
    assert os.listdir(volumes.host_path("bad")) != []


async def test_fs_group_owns_the_pods_volumes(volumes):
    pod = make_pod(volumes=[CACHE, MEMORY, SECRET, TOKEN], securityContext={"fsGroup": 4711})
    await volumes.set_up(pod, references(), CONTEXT)
    paths = volumes.host_paths()
    for name, expected in (("cache", 0o2777), ("memory", 0o3777)):
        assert os.stat(paths[name]).st_gid == 4711 and mode(paths[name]) == expected
    for file, expected in ((f"{paths['secret']}/password", 0o440), (f"{paths['token']}/token", 0o640)):
        assert os.stat(file).st_gid == 4711 and mode(file) == expected
    await volumes.refresh(pod, references(token="jwt-2"), CONTEXT)
    assert os.stat(f"{paths['token']}/token").st_gid == 4711 and mode(f"{paths['token']}/token") == 0o640


async def test_a_token_belongs_to_the_only_user(volumes):
    pod = make_pod(volumes=[TOKEN], securityContext={"runAsUser": 1234})
    await volumes.set_up(pod, references(), CONTEXT)
    token = f"{volumes.host_path('token')}/token"
    assert os.stat(token).st_uid == 1234 and mode(token) == 0o600


async def test_an_image_volume_needs_a_runtime_that_can(root, volumes):
    pod = make_pod(container(at("img", subPath="etc")), volumes=[{"name": "img", "image": {"reference": "reg.io/x:1"}}])
    with pytest.raises(VolumeError, match="cannot mount image volumes"):
        await volumes.set_up(pod, references(), CONTEXT)
    able = PodVolumes(root, image_volumes=True)
    await able.set_up(pod, references(), CONTEXT)
    mount = (await able.mounts(pod, pod["spec"]["containers"][0], {}))[0]
    assert (mount.image, mount.image_sub_path, mount.host_path, mount.readonly) == ("reg.io/x:1", "etc", "", True)


async def test_a_containers_mounts(volumes, root):
    target = container(
        at("cache", "/cache", mountPropagation="HostToContainer"),
        at("config", "/config"),
        at("cache", "/ro", readOnly=True),
        terminationMessagePath="/dev/end",
    )
    pod = make_pod(target, volumes=[CACHE, CONFIG], hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x"]}])
    await volumes.set_up(pod, references(), CONTEXT)
    cache, config, read_only, hosts, end = await volumes.mounts(pod, target, {})
    assert (cache.container_path, cache.propagation, cache.readonly) == ("/cache", "HostToContainer", False)
    assert (config.container_path, config.readonly, config.propagation) == ("/config", True, "None")
    assert (read_only.host_path, read_only.readonly) == (cache.host_path, True)
    assert (hosts.container_path, hosts.host_path) == ("/etc/hosts", str(root / "pods/u-1/etc-hosts"))
    assert "10.1.0.5\tweb\n" in Path(hosts.host_path).read_text() and mode(hosts.host_path) == 0o644
    assert end.container_path == "/dev/end" and mode(end.host_path) == 0o666
    again = await volumes.mounts(pod, target, {})
    assert again[-1].host_path != end.host_path


async def test_a_container_that_mounts_its_own_hosts_file_keeps_it(volumes):
    target = container(at("cache", "/etc/hosts"))
    pod = make_pod(target, volumes=[CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    assert [mount.name for mount in await volumes.mounts(pod, target, {})] == ["cache", "termination-log"]


async def test_a_sub_path_of_a_config_map_stays_what_it_was(volumes):
    target = container(at("config", "/etc/color", subPath="color"))
    pod = make_pod(target, volumes=[CONFIG])
    await volumes.set_up(pod, references(), CONTEXT)
    mount = (await volumes.mounts(pod, target, {}))[0]
    assert mount.host_path.endswith("/volume-subpaths/config/c/0")
    assert Path(mount.host_path).read_text() == "red" and mount.readonly
    await volumes.refresh(pod, references(color="blue"), CONTEXT)
    assert Path(mount.host_path).read_text() == "red"
    restarted = (await volumes.mounts(pod, target, {}))[0]
    assert restarted.host_path == mount.host_path and Path(restarted.host_path).read_text() == "blue"
    assert len(mountpoint.list_mounts(Path(mount.host_path))) == 1


async def test_sub_paths_are_made_and_expanded(volumes):
    target = container(
        at("cache", "/a", subPath="d/e"), at("cache", "/b", subPathExpr="$(POD)/logs"), at("cache", "/c", subPath="d/e")
    )
    pod = make_pod(target, volumes=[CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    first, second, third = (await volumes.mounts(pod, target, {"POD": "web-0"}))[:3]
    cache = volumes.host_path("cache")
    Path(first.host_path, "f").write_text("x")
    Path(second.host_path, "g").write_text("y")
    assert Path(cache, "d/e/f").read_text() == "x" and Path(cache, "web-0/logs/g").read_text() == "y"
    assert mode(f"{cache}/d/e") == 0o777
    assert Path(third.host_path, "f").read_text() == "x"


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (at("cache", subPath="/abs"), "error SubPath `/abs` must not be an absolute path"),
        (at("cache", subPath="a/../../b"), "unable to provision SubPath `a/../../b`: must not contain '..'"),
        (at("cache", subPathExpr="$(A)/$(B)"), "missing value for A, B"),
        (at("cache", subPathExpr="$(ABS)"), "error SubPath `/abs` must not be an absolute path"),
        (at("cache", subPath="evil/x"), 'failed to create subPath directory for volumeMount "cache" of container "c"'),
        (at("cache", subPath="passwd"), 'failed to prepare subPath for volumeMount "cache" of container "c"'),
        (at("nope"), 'cannot find volume "nope" to mount into container "c"'),
        (
            at("cache", recursiveReadOnly="Enabled", readOnly=True),
            'failed to resolve recursive read-only mode: volume "cache" requested recursive read-only mode, '
            "but it is not supported by the runtime",
        ),
    ],
)
async def test_mounts_that_cannot_be_honoured_are_errors_and_tell_nothing_of_the_instance(volumes, mount, message):
    target = container(mount)
    pod = make_pod(target, volumes=[CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    Path(volumes.host_path("cache"), "evil").symlink_to("/tmp")
    Path(volumes.host_path("cache"), "passwd").symlink_to("/etc/passwd")
    with pytest.raises(ContainerConfigError) as caught:
        await volumes.mounts(pod, target, {"ABS": "/abs"})
    assert str(caught.value) == message


async def test_recursive_read_only_is_passed_on_where_it_works(root):
    volumes = PodVolumes(root, recursive_read_only=True)
    target = container(at("cache", recursiveReadOnly="IfPossible", readOnly=True))
    pod = make_pod(target, volumes=[CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    assert (await volumes.mounts(pod, target, {}))[0].recursive_read_only


async def test_environment_files_are_read_from_volumes(volumes):
    reference = {"volumeName": "cache", "path": "env", "key": "K"}
    target = container(env=[{"name": "V", "valueFrom": {"fileKeyRef": reference}}])
    pod = make_pod(target, volumes=[CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    assert await volumes.env_files(target) == {}
    Path(volumes.host_path("cache"), "env").write_text("K='v'\n")
    assert await volumes.env_files(target) == {("cache", "env"): "K='v'\n"}


async def test_usage_is_measured_for_the_pods_own_volumes(volumes, root):
    host = {"name": "host", "hostPath": {"path": str(root.parent)}}
    await volumes.set_up(make_pod(volumes=[CACHE, MEMORY, host]), references(), CONTEXT)
    for name in ("cache", "memory"):
        Path(volumes.host_path(name), "f").write_bytes(os.urandom(200_000))
    found = await volumes.usage()
    assert set(found) == {"cache", "memory"}
    assert all(200_000 <= usage.used_bytes < 260_000 for usage in found.values())
    assert found["memory"].capacity_bytes == 1 << 20


async def test_tear_down_leaves_nothing_and_spares_what_was_only_bound(volumes, root):
    data = root.parent / "host-data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/precious").write_text("x")
    host = {"name": "host", "hostPath": {"path": str(data)}}
    target = container(at("host", subPath="sub"), at("config", "/c", subPath="color"))
    pod = make_pod(target, volumes=[host, CONFIG, SECRET, MEMORY, CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    await volumes.mounts(pod, target, {})
    mountpoint.mount_tmpfs(volumes.host_path("cache"), 0)
    fresh = PodVolumes(root)
    await fresh.tear_down()
    assert not (root / "pods").exists() and mountpoint.list_mounts(root) == []
    assert (data / "sub/precious").read_text() == "x"
    await fresh.tear_down()


async def test_a_root_behind_a_link_is_torn_down_as_carefully(root):
    data = root.parent / "host-data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/precious").write_text("x")
    root.mkdir()
    link = root.parent / "link"
    link.symlink_to(root)
    volumes = PodVolumes(link)
    target = container(at("host", subPath="sub"))
    pod = make_pod(target, volumes=[{"name": "host", "hostPath": {"path": str(data)}}, MEMORY, CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    await volumes.set_up(pod, references(), CONTEXT)
    assert fs_type(volumes.host_path("memory")) == ["tmpfs"]
    assert set(await volumes.usage()) == {"memory", "cache"}
    await volumes.mounts(pod, target, {})
    await volumes.tear_down()
    assert (data / "sub/precious").read_text() == "x"
    assert not (root / "pods").exists() and mountpoint.list_mounts(root) == []


async def test_a_disk_without_room_for_the_pods_directory_is_a_volume_error(volumes, root):
    root.mkdir()
    mountpoint.mount("tmpfs", str(root), "tmpfs", options="nr_inodes=1")
    with pytest.raises(VolumeError, match="error making pod data directories: mkdir .*: no space left") as caught:
        await volumes.set_up(make_pod(volumes=[CACHE]), references(), CONTEXT)
    assert caught.value.reason == "Failed"
    mountpoint.unmount(str(root))
    await volumes.set_up(make_pod(volumes=[CACHE]), references(), CONTEXT)


async def test_a_full_disk_fails_a_config_map_and_spares_its_old_content(volumes, root):
    root.mkdir()
    mountpoint.mount("tmpfs", str(root), "tmpfs", options="size=256k")
    pod = make_pod(volumes=[CONFIG, CACHE])
    await volumes.set_up(pod, references(), CONTEXT)
    hog = Path(volumes.host_path("cache"), "hog")
    with contextlib.suppress(OSError), hog.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    big = references(color="x" * 8192)
    with pytest.raises(VolumeError, match='MountVolume.SetUp failed for volume "config" : .*no space left'):
        await volumes.refresh(pod, big, CONTEXT)
    assert Path(volumes.host_path("config"), "color").read_text() == "red"
    hog.unlink()
    await volumes.refresh(pod, big, CONTEXT)
    assert Path(volumes.host_path("config"), "color").read_text() == "x" * 8192


async def test_a_restart_of_the_agent_keeps_the_groups_bits(volumes, root):
    pod = make_pod(volumes=[CONFIG, SECRET], securityContext={"fsGroup": 123})
    await volumes.set_up(pod, references(), CONTEXT)
    before = [mode(volumes.host_path(name)) for name in ("config", "secret")]
    fresh = PodVolumes(root)
    await fresh.set_up(pod, references(), CONTEXT)
    assert [mode(fresh.host_path(name)) for name in ("config", "secret")] == before == [0o2777, 0o2777]


async def test_a_volume_that_is_in_use_is_still_torn_down(volumes, root):
    await volumes.set_up(make_pod(volumes=[MEMORY]), references(), CONTEXT)
    with open(f"{volumes.host_path('memory')}/f", "w") as busy:
        busy.write("x")
        busy.flush()
        await volumes.tear_down()
    assert mountpoint.list_mounts(root) == []


async def test_a_cancelled_caller_does_not_let_a_second_one_in_early(volumes):
    pod = make_pod(volumes=[CONFIG, SECRET, TOKEN, MEMORY])
    first = asyncio.create_task(volumes.set_up(pod, references(), CONTEXT))
    await asyncio.sleep(0)
    first.cancel()
    await volumes.set_up(pod, references(color="blue"), CONTEXT)
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert Path(volumes.host_path("config"), "color").read_text() == "blue"
    assert fs_type(volumes.host_path("secret")) == ["tmpfs"]
