"""Log files in CRI format: options, lines, tail, limits, following."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from vk_provider.agent.logs import read_log
from vk_provider.aiokit.inotify import Inotify
from vk_provider.crilog.line import LogLineError, format_timestamp, parse_line, parse_timestamp_ns
from vk_provider.crilog.options import LogOptions, LogOptionsError, parse_log_options, refuse_stream
from vk_provider.crilog.reader import BLOCK_BYTES, LogFileError, LogReader, read_raw
from vk_provider.crilog.source import LogUnavailableError, select_log_source

T = "2026-01-02T03:04:0{}.000000001Z"
NOW_NS = parse_timestamp_ns(b"2026-01-02T03:04:09Z")


def line(second: int, text: str, tag: str = "F", stream: str = "stdout") -> str:
    return f"{T.format(second)} {stream} {tag} {text}\n"


LOG = line(1, "one") + line(2, "two", "P") + line(2, " and a half") + line(3, "three", stream="stderr")


def read_all(path: Path, options: LogOptions, now_ns: int = NOW_NS) -> str:
    reader = LogReader(str(path), options, now_ns)
    try:
        parts = []
        while reader.pending:
            parts.append(reader.read())
        return b"".join(parts).decode()
    finally:
        reader.close()


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text(LOG)
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), "one\ntwo and a half\nthree\n"),
        (LogOptions(tail_lines=0), ""),
        (LogOptions(tail_lines=1), "three\n"),
        (LogOptions(tail_lines=2), " and a half\nthree\n"),
        (LogOptions(tail_lines=99), "one\ntwo and a half\nthree\n"),
        (LogOptions(limit_bytes=5), "one\nt"),
        (LogOptions(limit_bytes=4), "one\n"),
        (LogOptions(since_seconds=7), "two and a half\nthree\n"),
        (LogOptions(since_time_ns=parse_timestamp_ns(b"2026-01-02T03:04:03.000000001Z")), "three\n"),
        (LogOptions(since_time_ns=parse_timestamp_ns(b"2026-01-02T03:04:03.000000002Z")), ""),
        (LogOptions(tail_lines=3, since_seconds=6), "three\n"),
        (
            LogOptions(timestamps=True),
            f"{T.format(1)} one\n{T.format(2)} two and a half\n{T.format(3)} three\n",
        ),
        (LogOptions(timestamps=True, limit_bytes=33), f"{T.format(1)} on"),
    ],
)
def test_a_log_is_cut_as_asked(log_file: Path, options: LogOptions, expected: str) -> None:
    assert read_all(log_file, options) == expected


def test_the_last_line_without_newline_is_shown_when_not_following(log_file: Path) -> None:
    log_file.write_text(line(1, "one") + f"{T.format(2)} stdout F rest")
    assert read_all(log_file, LogOptions()) == "one\nrest"
    assert read_all(log_file, LogOptions(follow=True)) == "one\n"


def test_a_broken_line_is_left_out_but_a_file_in_another_format_is_an_error(log_file: Path) -> None:
    log_file.write_text(line(1, "one") + "garbage\n" + line(2, "two"))
    assert read_all(log_file, LogOptions()) == "one\ntwo\n"
    log_file.write_text("garbage\n")
    with pytest.raises(LogFileError, match="unsupported log format"):
        read_all(log_file, LogOptions())


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match='failed to try resolving symlinks in path ".*/none.log"'):
        LogReader(str(tmp_path / "none.log"), LogOptions(), NOW_NS)


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_the_tail_of_a_file_of_many_blocks_is_exact(tmp_path: Path, count: int) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(line(1, f"line {number} " + "x" * (number % 90)) for number in range(6000)))
    assert path.stat().st_size > 3 * BLOCK_BYTES
    shown = read_all(path, LogOptions(tail_lines=count)).splitlines()
    assert [text.split()[1] for text in shown] == [str(number) for number in range(6000 - count, 6000)]
    assert len(read_all(path, LogOptions()).splitlines()) == 6000


def test_a_block_without_a_wanted_line_does_not_hold_the_reader_up(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1, "x" * 90) * 4000 + line(9, "new"))
    reader = LogReader(str(path), LogOptions(since_time_ns=parse_timestamp_ns(T.format(9).encode())), NOW_NS)
    parts = []
    while reader.pending:
        parts.append(reader.read())
    reader.close()
    assert b"".join(parts) == b"new\n"
    assert parts.count(b"") >= path.stat().st_size // BLOCK_BYTES


def test_a_followed_tail_of_nothing_begins_with_the_line_that_is_being_written(log_file: Path) -> None:
    with log_file.open("a") as file:
        file.write(f"{T.format(4)} stdout F ha")
        file.flush()
        reader = LogReader(str(log_file), LogOptions(follow=True, tail_lines=0), NOW_NS)
        assert reader.read() == b""
        file.write("lf\n")
    assert reader.read() == b"half\n"
    reader.close()


def test_lone_carriage_returns_do_not_split_lines(log_file: Path) -> None:
    log_file.write_bytes(line(1, "10%\r20%\x0b\x1c\x85").encode())
    assert read_all(log_file, LogOptions(timestamps=True)) == f"{T.format(1)} 10%\r20%\x0b\x1c\x85\n"


def test_timestamps_keep_their_zone_and_get_nine_digits() -> None:
    assert format_timestamp(b"2026-01-02T03:04:05Z") == b"2026-01-02T03:04:05.000000000Z"
    assert format_timestamp(b"2026-01-02T03:04:05.12+02:00") == b"2026-01-02T03:04:05.120000000+02:00"
    assert parse_timestamp_ns(b"2026-01-02T05:04:05.12+02:00") == parse_timestamp_ns(b"2026-01-02T03:04:05.12Z")
    for wrong in (b"2026-01-02T03:04:05", b"2026-13-02T03:04:05x", b"2026-01-02T03:04:05.1x2Z"):
        with pytest.raises(LogLineError):
            parse_timestamp_ns(wrong)


def test_tags_after_a_colon_are_ignored() -> None:
    assert parse_line(b"2026-01-02T03:04:05Z stdout P:x half\n").content == b"half"
    assert parse_line(b"2026-01-02T03:04:05Z stdout F:x full\n").content == b"full\n"


def test_an_archive_copy_keeps_whole_newest_lines(log_file: Path) -> None:
    whole = LOG.encode()
    last = line(3, "three", stream="stderr").encode()
    assert b"".join(read_raw(str(log_file), 10_000)) == whole
    assert b"".join(read_raw(str(log_file), len(last))) == last
    assert b"".join(read_raw(str(log_file), len(last) + 3)) == last
    assert b"".join(read_raw(str(log_file), len(last) - 1)) == b""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, LogOptions()),
        ({"follow": "true", "previous": "1", "timestamps": "yes"}, LogOptions(True, True, True)),
        ({"follow": "false", "previous": "0", "timestamps": "False"}, LogOptions()),
        ({"tail": "5"}, LogOptions(tail_lines=5)),
        ({"tail": "all", "tailLines": "3"}, LogOptions()),
        ({"limitBytes": "1", "sinceSeconds": "2"}, LogOptions(limit_bytes=1, since_seconds=2)),
        ({"sinceTime": "1970-01-01T00:00:01Z"}, LogOptions(since_time_ns=1_000_000_000)),
        ({"sinceTime": "1970-01-01T01:00:01 01:00"}, LogOptions(since_time_ns=1_000_000_000)),
        ({"sinceTime": "1970-01-01T00:00:01.5Z"}, LogOptions(since_time_ns=1_500_000_000)),
        ({"sinceTime": ""}, LogOptions(since_time_ns=0)),
        ({"sinceTime": "null"}, LogOptions(since_time_ns=0)),
        ({"stream": "Stdout"}, LogOptions()),
        ({"timestamps": "", "follow": "0"}, LogOptions(timestamps=True)),
    ],
)
def test_queries_are_decoded_as_a_kubelet_does(query: dict[str, str], expected: LogOptions) -> None:
    assert parse_log_options(query.items()) == expected


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"tailLines": "x"}, 400),
        ({"tailLines": ""}, 400),
        ({"tailLines": "1_0"}, 400),
        ({"limitBytes": "9" * 5000}, 400),
        ({"limitBytes": str(2**63)}, 400),
        ({"limitBytes": str(-(2**63))}, 422),
        ({"sinceTime": "yesterday"}, 400),
        ({"sinceTime": "2026-02-31T00:00:00Z"}, 400),
        ({"sinceTime": "2026-02-03T25:00:00Z"}, 400),
        ({"sinceTime": "2026-02-03t05:00:00Z"}, 400),
        ({"sinceTime": "2026_02_03T05:00:00Z"}, 400),
        ({"sinceTime": "2026-02-03T05:00:00+99:00"}, 400),
        ({"sinceTime": "2026-02-03"}, 400),
        ({"sinceTime": "", "sinceSeconds": "1"}, 422),
        ({"stream": "both"}, 422),
        ({"stream": ""}, 422),
        ({"stream": "Stdout", "tailLines": "1"}, 422),
        ({"tailLines": "-1"}, 422),
        ({"limitBytes": "0"}, 422),
        ({"sinceSeconds": "0"}, 422),
        ({"sinceSeconds": "1", "sinceTime": "1970-01-01T00:00:01Z"}, 422),
    ],
)
def test_bad_queries_are_refused(query: dict[str, str], status: int) -> None:
    with pytest.raises(LogOptionsError) as refused:
        parse_log_options(query.items())
    assert refused.value.status == status


def test_a_single_stream_is_refused() -> None:
    refuse_stream([("stream", "All")])
    with pytest.raises(LogOptionsError, match='the given log stream: "Stdout"'):
        refuse_stream([("stream", "Stdout")])


TERMINATED = {"terminated": {"containerID": "containerd://old"}}


@pytest.mark.parametrize(
    ("status", "previous", "expected"),
    [
        ({"state": {"running": {}}, "containerID": "containerd://now"}, False, "containerd://now"),
        ({"state": {"running": {}}, "lastState": TERMINATED}, True, "containerd://old"),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": TERMINATED}, False, "containerd://old"),
        ({"state": {"terminated": {"containerID": "containerd://end"}}}, False, "containerd://end"),
        ({"state": {"terminated": {}}, "lastState": TERMINATED}, False, "containerd://old"),
        ({"state": {"running": {}}}, True, 'previous terminated container "c" in pod "p" not found'),
        ({"state": {"terminated": {}}}, False, 'container "c" in pod "p" is terminated'),
        ({"state": {}}, False, 'container "c" in pod "p" is waiting to start - no logs yet'),
        (
            {"state": {"waiting": {"reason": "ErrImagePull"}}},
            False,
            'container "c" in pod "p" is waiting to start: image can\'t be pulled',
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
            False,
            'container "c" in pod "p" is waiting to start: trying and failing to pull image',
        ),
        (
            {"state": {"waiting": {"reason": "PodInitializing"}}},
            False,
            'container "c" in pod "p" is waiting to start: PodInitializing',
        ),
    ],
)
def test_the_instance_of_the_container_is_chosen_by_its_state(
    status: dict[str, object], previous: bool, expected: str
) -> None:
    pod_status = {"initContainerStatuses": [{"name": "c", **status}]}
    try:
        found = select_log_source("p", pod_status, "c", previous)
    except LogUnavailableError as error:
        found = str(error)
    assert found == expected


def test_a_container_without_status_is_not_available() -> None:
    with pytest.raises(LogUnavailableError, match='^container "c" in pod "p" is not available$'):
        select_log_source("p", {}, "c", False)


async def test_a_followed_log_goes_on_across_rotation_and_ends_with_its_container(log_file: Path) -> None:
    running = True
    seen: list[bytes] = []
    arrived = asyncio.Event()

    async def is_running() -> bool:
        return running

    async def follow() -> None:
        async for text in read_log(str(log_file), LogOptions(follow=True, tail_lines=1), is_running, Inotify()):
            seen.append(text)
            arrived.set()

    async def wait_for(text: bytes) -> None:
        while text not in b"".join(seen):
            arrived.clear()
            async with asyncio.timeout(30):
                await arrived.wait()

    follower = asyncio.create_task(follow())
    await wait_for(b"three\n")
    with log_file.open("a") as file:
        file.write(line(4, "four"))
    await wait_for(b"four\n")
    os.rename(log_file, log_file.with_suffix(".old"))
    with log_file.open("w") as file:
        file.write(line(5, "five"))
    await wait_for(b"five\n")
    running = False
    with log_file.open("a") as file:
        file.write(line(6, "six"))
    async with asyncio.timeout(30):
        await follower
    assert b"".join(seen) == b"three\nfour\nfive\nsix\n"


async def test_a_follower_reads_what_is_written_to_the_old_file_during_a_rotation(
    log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file's end was seen, then the runtime wrote on, and then it changed to a new file."""
    loop, real_stat, rotated = asyncio.get_running_loop(), os.stat, False
    old = log_file.open("a", buffering=1)

    def stat(path: str, *args: object, **kwargs: object) -> os.stat_result:
        nonlocal rotated
        if path == str(log_file) and not rotated:
            rotated = True
            old.write(line(4, "four"))
            os.rename(log_file, log_file.with_suffix(".old"))
            log_file.write_text(line(6, "six"))
            loop.call_later(0.01, old.write, line(5, "five"))
        return real_stat(path, *args, **kwargs)

    async def is_running() -> bool:
        return not rotated

    monkeypatch.setattr("vk_provider.crilog.reader.os.stat", stat)
    texts = read_log(str(log_file), LogOptions(follow=True, tail_lines=1), is_running, Inotify())
    async with asyncio.timeout(10):
        assert b"".join([text async for text in texts]) == b"three\nfour\nfive\nsix\n"
    old.close()


def test_a_reader_stays_with_the_old_file_when_the_new_one_has_gone_again(log_file: Path) -> None:
    reader = LogReader(str(log_file), LogOptions(follow=True), 0)
    os.rename(log_file, log_file.with_suffix(".old"))
    assert not reader.is_rotated()
    reader.reopen()
    assert reader.read().endswith(b"three\n")
    reader.close()


async def test_inotify_gives_its_descriptor_back_with_the_last_watch(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    inotify = Inotify()
    with inotify.watch(str(tmp_path)) as first, inotify.watch(str(tmp_path)) as second:
        (tmp_path / "x").write_text("x")
        async with asyncio.timeout(30):
            await first.changed.wait()
        assert second.changed.is_set() and second.active
    assert len(os.listdir("/proc/self/fd")) == before
