"""The log archive against agents that lie, hang, drip and never end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.pods import archive as archive_module
from vk_provider.pods import archive_store
from vk_provider.pods.archive import ArchiveLimits, LogArchive, UnsafeNameError, logs_to_keep

LINE = b"2026-01-02T03:04:05Z stdout F hello\n"
LIMITS = ArchiveLimits(container_bytes=1000, pod_bytes=1500, total_bytes=3000, pod_s=5.0)
Body = Callable[[str], AsyncIterator[bytes]]


class Agent:
    """An AgentConnector whose every log is `body(container)`."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.queries: list[dict[str, str]] = []
        self.closed = 0

    async def request(self, instance: Instance, method: str, path: str, query: list[tuple[str, str]]) -> Any:
        self.queries.append(dict(query))
        agent, container = self, dict(query)["container"]

        class Response:
            status, headers = 200, dict[str, str]()

            def iter_any(self) -> AsyncIterator[bytes]:
                return agent.body(container)

            async def close(self) -> None:
                agent.closed += 1

        return Response()


async def honest(container: str) -> AsyncIterator[bytes]:
    yield LINE
    yield container.encode() + b"\n"


async def endless(container: str) -> AsyncIterator[bytes]:
    while True:
        yield LINE
        await asyncio.sleep(0)


async def silent(container: str) -> AsyncIterator[bytes]:
    yield LINE
    await asyncio.Event().wait()


async def dripping(container: str) -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.001)


def make_pod(number: int = 1, *names: str) -> Json:
    uid = f"0f0d1e4a-0000-4000-8000-{number:012}"
    return {"metadata": {"uid": uid}, "spec": {"containers": [{"name": name} for name in names or ("c",)]}}


def ran(*names: str, previous: bool = False) -> Json:
    last = {"lastState": {"terminated": {"exitCode": 1}}} if previous else {}
    return {"containerStatuses": [{"name": name, "containerID": "containerd://1", **last} for name in names or ("c",)]}


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "127.0.0.1", "127.0.0.2", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def fetch(archive: LogArchive, pod: Json, status: Json, body: Body) -> Agent:
    agent = Agent(body)
    await archive.fetch(pod, status, INSTANCE, agent)
    return agent


async def test_logs_of_the_current_and_the_previous_run_are_kept_whole(root: Path) -> None:
    archive = LogArchive(str(root), LIMITS)
    agent = await fetch(archive, make_pod(), ran(previous=True), honest)
    uid = make_pod()["metadata"]["uid"]
    assert files(root) == [f"{uid}/c.log", f"{uid}/c.previous.log"]
    path = archive.path(uid, "c", False)
    assert path is not None and path.read_bytes() == LINE + b"c\n"
    assert agent.closed == 2 and os.stat(path.parent).st_mode & 0o777 == 0o700
    await archive.remove(uid)
    assert archive.path(uid, "c", False) is None and files(root) == []


@pytest.mark.parametrize("name", ["/etc/logrotate.d/evil", "../../evil", "..", "c/../../evil", "other"])
async def test_a_container_that_only_the_agent_knows_is_never_asked_for(root: Path, name: str) -> None:
    """Container names of an agent's status became paths once: a file anywhere, written as root."""
    agent = await fetch(LogArchive(str(root), LIMITS), make_pod(), ran("c", name), honest)
    assert [query["container"] for query in agent.queries] == ["c"]
    assert files(root.parent) == [f"archive/{make_pod()['metadata']['uid']}/c.log"]


@pytest.mark.parametrize("said", ["text", [7, None, "x", {"name": {}}, {"containerID": "1"}], {"c": 1}, 7])
def test_nonsense_in_a_status_names_no_log(said: Any) -> None:
    assert list(logs_to_keep(make_pod(), {"containerStatuses": said})) == []


def test_all_kinds_of_containers_of_the_spec_are_kept() -> None:
    pod = make_pod()
    pod["spec"] |= {"initContainers": [{"name": "i"}], "ephemeralContainers": [{"name": "e"}]}
    status = {
        **ran("c"),
        "initContainerStatuses": ran("i", previous=True)["containerStatuses"],
        "ephemeralContainerStatuses": ran("e")["containerStatuses"],
    }
    assert list(logs_to_keep(pod, status)) == [("c", False), ("i", False), ("i", True), ("e", False)]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "..", ".", "", "a/b", "a\0", "c.previous", "A"])
async def test_a_name_that_leads_out_of_the_archive_is_refused_whoever_says_it(root: Path, name: str) -> None:
    archive = LogArchive(str(root), LIMITS)
    with pytest.raises(UnsafeNameError):
        archive.path(make_pod()["metadata"]["uid"], name, False)
    with pytest.raises(UnsafeNameError):
        await fetch(archive, make_pod(1, name), ran(name), honest)
    assert files(root.parent) == []


@pytest.mark.parametrize("uid", ["..", ".", "", "/etc", "../x", "a/b"])
async def test_a_uid_that_leads_out_of_the_archive_is_refused_before_anything_is_removed(root: Path, uid: str) -> None:
    os.mkdir(root)
    (root.parent / "x").write_text("kept")
    archive = LogArchive(str(root), LIMITS)
    for refused in (archive.remove(uid), fetch(archive, {**make_pod(), "metadata": {"uid": uid}}, ran(), honest)):
        with pytest.raises(UnsafeNameError):
            await refused
    assert files(root.parent) == ["x"]
    os.rmdir(root)  # it is still there


async def test_a_link_in_the_archive_leads_nowhere_else(root: Path, tmp_path: Path) -> None:
    for directory in (root, tmp_path / "elsewhere"):
        os.mkdir(directory)
    os.symlink(tmp_path / "elsewhere", root / make_pod()["metadata"]["uid"])
    with pytest.raises(UnsafeNameError):
        await fetch(LogArchive(str(root), LIMITS), make_pod(), ran(), honest)
    assert files(tmp_path / "elsewhere") == []


async def test_an_endless_log_is_given_up_at_the_limit_and_leaves_nothing(root: Path) -> None:
    archive = LogArchive(str(root), LIMITS)

    def body(container: str) -> AsyncIterator[bytes]:
        return endless(container) if container == "a" else honest(container)

    with pytest.raises(AgentError, match="more than 1000 bytes as log of container a"):
        await fetch(archive, make_pod(1, "a", "b"), ran("a", "b"), body)
    assert files(root) == [f"{make_pod()['metadata']['uid']}/b.log"]


async def test_the_logs_of_one_pod_have_a_limit_together(root: Path) -> None:
    async def large(container: str) -> AsyncIterator[bytes]:
        yield b"x" * int(agent.queries[-1]["maxBytes"])

    agent = Agent(large)
    archive = LogArchive(str(root), LIMITS)
    await archive.fetch(make_pod(1, "a", "b", "d"), ran("a", "b", "d"), INSTANCE, agent)
    assert [query["maxBytes"] for query in agent.queries] == ["1000", "500"]
    assert [len((root / name).read_bytes()) for name in files(root)] == [1000, 500]


async def test_the_oldest_archives_make_room_also_after_a_restart(root: Path) -> None:
    async def large(container: str) -> AsyncIterator[bytes]:
        yield b"x" * 1000

    def kept() -> list[int]:
        return [int(name.partition("/")[0][-3:]) for name in files(root)]

    archive = LogArchive(str(root), LIMITS)
    for number in range(1, 5):
        await fetch(archive, make_pod(number), ran(), large)
        os.utime(root / make_pod(number)["metadata"]["uid"], (number, number))
    assert kept() == [2, 3, 4]
    (root / make_pod(3)["metadata"]["uid"] / "d.log.part").write_text("torn")
    os.utime(root / make_pod(2)["metadata"]["uid"], (9, 9))
    os.utime(root / make_pod(3)["metadata"]["uid"], (3, 3))
    again = LogArchive(str(root), LIMITS)
    await again.keep_only([make_pod(number)["metadata"]["uid"] for number in (2, 3, 4)])
    assert kept() == [2, 3, 4]  # the torn file is gone
    await fetch(again, make_pod(5), ran(), large)
    assert kept() == [2, 4, 5]


async def test_a_log_that_is_fetched_again_counts_once(root: Path) -> None:
    archive = LogArchive(str(root), ArchiveLimits(1000, 1000, 3 * len(LINE + b"c\n"), 5.0))
    for number in (1, 2, 2, 2, 2):
        await fetch(archive, make_pod(number), ran(), honest)
    assert len(files(root)) == 2


async def test_an_archive_that_is_full_of_what_is_being_written_refuses(root: Path) -> None:
    archive = LogArchive(str(root), ArchiveLimits(1000, 1000, 50, 5.0))
    with pytest.raises(OSError, match="archive is full"):
        await fetch(archive, make_pod(), ran(), endless)
    assert files(root) == []
    await fetch(archive, make_pod(), ran(), honest)
    assert len(files(root)) == 1


@pytest.mark.parametrize(
    ("body", "stall_s", "pod_s", "message"),
    [(silent, 0.02, 5.0, "no byte of the log of container c"), (dripping, 5.0, 0.05, "did not send all logs within")],
)
async def test_an_agent_that_hangs_or_drips_is_given_up_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, body: Body, stall_s: float, pod_s: float, message: str
) -> None:
    monkeypatch.setattr(archive_module, "STALL_S", stall_s)
    with pytest.raises(AgentError, match=message):
        await fetch(LogArchive(str(root), ArchiveLimits(1000, 1000, 3000, pod_s)), make_pod(), ran(), body)
    assert files(root) == []


async def test_agents_that_hang_hold_up_nobody_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are slots; once, nine delayed everybody's end by 30 s each."""
    monkeypatch.setattr(archive_module, "SLOT_S", 0.01)
    archive = LogArchive(str(root), LIMITS)
    hanging = [
        asyncio.create_task(fetch(archive, make_pod(number), ran(), silent))
        for number in range(2, 2 + 2 * archive_module.SLOTS)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(2.0):
        await fetch(archive, make_pod(1), ran(), honest)
    assert not any(task.done() for task in hanging)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert files(root) == [f"{make_pod(1)['metadata']['uid']}/c.log"]


async def test_a_file_that_is_opened_while_its_pod_is_given_up_is_not_left_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, may_open = asyncio.Event(), threading.Event()
    real_open, loop = archive_store._open, asyncio.get_running_loop()

    def slow_open(path: Path) -> Any:
        loop.call_soon_threadsafe(opening.set)
        may_open.wait(5.0)
        return real_open(path)

    monkeypatch.setattr(archive_store, "_open", slow_open)
    fetching = asyncio.create_task(fetch(LogArchive(str(root), LIMITS), make_pod(), ran(), honest))
    await opening.wait()
    fetching.cancel()
    await asyncio.sleep(0)
    may_open.set()
    await asyncio.wait({fetching})
    assert fetching.cancelled() and files(root) == []


async def test_a_slot_is_given_back_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "SLOT_S", 0.0)
    archive = LogArchive(str(root), LIMITS)
    for number in range(3):
        await fetch(archive, make_pod(number), ran(), honest)
    assert archive._slots._value == archive_module.SLOTS


async def test_a_slow_disk_does_not_stop_the_loop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, may_write = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    opened = archive_store._open

    def slow_open(path: Path) -> Any:
        loop.call_soon_threadsafe(writing.set)
        assert may_write.wait(5)
        return opened(path)

    monkeypatch.setattr(archive_store, "_open", slow_open)
    task = asyncio.create_task(fetch(LogArchive(str(root), LIMITS), make_pod(), ran(), honest))
    await asyncio.wait_for(writing.wait(), 30)
    may_write.set()  # reached only because the loop goes on
    await asyncio.wait_for(task, 30)
    assert len(files(root)) == 1
