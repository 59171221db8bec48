"""hostPath volumes below a directory that hostile pods of other instances write, too. Real mounts, as root."""

# ruff: noqa: ASYNC240 - a test may look at files while its event loop waits

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.podmodel.builders import CONTEXT, make_pod
from vk_provider.agent.volumes import mountpoint
from vk_provider.agent.volumes.errors import VolumeErrors
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.podmodel.context import PodContext

pytestmark = pytest.mark.real

SECRET = "of this instance alone"


class World:
    """An instance with a shared directory (a mount, as the cloud makes it) and files of its own beside it."""

    def __init__(self, base: Path) -> None:
        self.base, self.root, self.own = base, base / "shared", base / "own"
        for path in (self.root, self.own):
            path.mkdir()
        (self.own / "key").write_text(SECRET)
        mountpoint.mount_tmpfs(str(self.root), 1 << 20, 0o755)
        self.volumes = PodVolumes(base / "kubelet")

    @property
    def context(self) -> PodContext:
        return replace(CONTEXT, node={**CONTEXT.node, "sharedHostPaths": [str(self.root)]})

    async def set_up(self, path: str, kind: str = "DirectoryOrCreate") -> Path:
        """The directory or file that containers get for a hostPath of that path."""
        pod = make_pod(volumes=[{"name": "data", "hostPath": {"path": path, "type": kind}}])
        await self.volumes.set_up(pod, {}, self.context)
        found = self.volumes.host_path("data")
        assert found is not None
        return Path(found)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path.resolve())
    mountpoint.unmount_below(tmp_path.resolve())


async def test_a_shared_directory_is_made_and_keeps_what_is_written(world: World) -> None:
    mounted = await world.set_up(f"{world.root}/a/b")
    (mounted / "file").write_text("left behind")
    assert (world.root / "a/b/file").read_text() == "left behind"
    assert stat.S_IMODE((world.root / "a").stat().st_mode) == 0o755
    assert await world.volumes.usage() == {}, "it is not the pod's own disk"
    await world.volumes.tear_down()
    assert (world.root / "a/b/file").read_text() == "left behind"


async def test_the_shared_directory_itself_and_a_file_in_it_can_be_mounted(world: World) -> None:
    assert os.path.samefile(await world.set_up(f"{world.root}/"), world.root)
    await world.volumes.tear_down()
    file = await world.set_up(f"{world.root}/f", "FileOrCreate")
    assert file.is_file() and os.path.samefile(file, world.root / "f")


@pytest.mark.parametrize("kind", ["", "Directory", "DirectoryOrCreate"])
async def test_a_link_out_of_the_shared_directory_is_not_followed(world: World, kind: str) -> None:
    for target in (str(world.own), "../own", "/"):
        link = world.root / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        for path in ("link", "link/new", "link/../link"):
            with pytest.raises(VolumeErrors):
                await world.set_up(f"{world.root}/{path}", kind)
    assert os.listdir(world.own) == ["key"]


@pytest.mark.parametrize("kind", ["File", "FileOrCreate"])
async def test_no_file_is_read_or_made_through_a_link(world: World, kind: str) -> None:
    (world.root / "key").symlink_to(world.own / "key")
    (world.root / "new").symlink_to(world.own / "new")
    (world.root / "dir").symlink_to(world.own)
    for path in ("key", "new", "dir/key", "dir/new"):
        with pytest.raises(VolumeErrors):
            await world.set_up(f"{world.root}/{path}", kind)
    assert os.listdir(world.own) == ["key"]


async def test_a_link_within_the_shared_directory_is_followed(world: World) -> None:
    (world.root / "real").mkdir()
    (world.root / "link").symlink_to("real")
    assert os.path.samefile(await world.set_up(f"{world.root}/link/new"), world.root / "real/new")


async def test_a_directory_that_is_swapped_for_a_link_afterwards_leads_nowhere_else(world: World) -> None:
    mounted = await world.set_up(f"{world.root}/victim")
    (world.root / "victim").rmdir()
    (world.root / "victim").symlink_to(world.own)
    assert os.listdir(mounted) == [], "the container has what was opened"
    restarted = PodVolumes(world.base / "kubelet")
    world.volumes = restarted
    assert os.listdir(await world.set_up(f"{world.root}/victim")) == [], "also after a restart of the agent"


@pytest.mark.parametrize("step", ["realpath", "open"])
async def test_a_directory_that_is_swapped_for_a_link_meanwhile_is_an_error(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker wins the race at each place where the path is looked at."""
    (world.root / "victim").mkdir()
    genuine: Any = os.path.realpath if step == "realpath" else os.open

    def swap(path: Any, *arguments: Any, **named: Any) -> Any:
        result = genuine(path, *arguments, **named) if step == "realpath" else None
        victim = world.root / "victim"
        if str(path).endswith("victim") and victim.is_dir() and not victim.is_symlink():
            victim.rmdir()
            victim.symlink_to(world.own)
        return result if step == "realpath" else genuine(path, *arguments, **named)

    monkeypatch.setattr(os.path if step == "realpath" else os, step, swap)
    with pytest.raises(VolumeErrors):
        await world.set_up(f"{world.root}/victim")
    assert (world.root / "victim").is_symlink(), "the attack took place"


async def test_what_stands_in_the_way_is_named_in_the_kubelets_words(world: World) -> None:
    os.mkfifo(world.root / "pipe")
    (world.root / "file").write_text("")
    for path, kind, words in (
        ("file", "Directory", "is not a directory, it's a File"),
        ("pipe", "File", "only recognise file, directory, socket"),
        ("none", "Directory", "does not exist"),
    ):
        with pytest.raises(VolumeErrors) as caught:
            await world.set_up(f"{world.root}/{path}", kind)
        assert words in str(caught.value.errors[0])


async def test_a_path_that_no_mount_shares_is_the_instances_own(world: World) -> None:
    """An instance from before its Node shared the path."""
    mountpoint.unmount(str(world.root))
    assert await world.set_up(f"{world.root}/a") == world.root / "a"
