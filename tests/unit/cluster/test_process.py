"""Start, find again and stop a program."""

import json
import os
import select
import shutil
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

from tests.cluster import process as process_module
from tests.cluster.errors import ClusterError
from tests.cluster.process import Process

SLEEP = [shutil.which("sleep") or "/bin/sleep", "100"]
SHELL = "/bin/sh"


@pytest.fixture
def process(tmp_path: Path):
    made = Process("sleeper", tmp_path / "run", tmp_path / "logs")
    yield made
    made.stop()


def test_it_is_found_again_by_its_pid_file_and_not_started_twice(process: Process) -> None:
    pid = process.start(SLEEP)
    again = Process(process.name, process.run_dir, process.log_dir)
    assert again.pid() == pid
    assert again.start(SLEEP) == pid


def test_it_leads_a_session_of_its_own(process: Process) -> None:
    pid = process.start(SLEEP)
    assert os.getsid(pid) == pid


def test_stop_ends_its_children_too_even_when_it_is_frozen(process: Process, tmp_path: Path) -> None:
    marker = tmp_path / "child"
    os.mkfifo(marker)
    process.start([SHELL, "-c", f"sleep 100 & echo $! > {marker}; wait"])
    child = int(marker.read_text())  # a fifo: returns when the child exists
    ended = os.pidfd_open(child)
    process.signal(SIGSTOP)
    process.stop()
    assert process.pid() is None
    assert not process.pid_file.exists()
    assert select.select([ended], [], [], 5)[0]
    os.close(ended)


def test_a_program_that_ignores_the_request_is_killed(process: Process, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    process.start([SHELL, "-c", f"trap '' TERM; echo > {ready}; while :; do sleep 100; done"])
    ready.read_text()
    process.stop(limit_s=0.05)
    assert process.pid() is None


def test_a_frozen_program_still_counts_as_running(process: Process) -> None:
    pid = process.start(SLEEP)
    process.signal(SIGSTOP)
    assert process.pid() == pid
    process.signal(SIGCONT)


def test_another_program_with_a_reused_pid_is_left_alone(process: Process) -> None:
    process.run_dir.mkdir()
    process.pid_file.write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert process.pid() is None
    process.stop()  # would end this test run if it believed the pid


def test_a_program_that_ended_is_reported_with_the_end_of_its_log(process: Process) -> None:
    pid = process.start([SHELL, "-c", "echo it broke; exit 1"])
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ClusterError, match="it broke"):
        process.require_alive()


def test_a_program_that_does_not_exist_is_one_clear_error(process: Process) -> None:
    with pytest.raises(ClusterError, match="cannot start /none: No such file"):
        process.start(["/none"])


def test_a_program_whose_pid_cannot_be_written_down_is_not_left_behind(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[int] = []
    spawn = process_module._spawn
    monkeypatch.setattr(process_module, "_spawn", lambda *given: spawned.append(spawn(*given)) or spawned[-1])
    process.pid_file.with_suffix(".new").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        process.start(SLEEP)
    _, status = os.waitpid(spawned[0], 0)
    assert os.WTERMSIG(status) == SIGKILL and process.pid() is None


def test_stop_is_fine_when_nothing_runs(process: Process) -> None:
    process.stop()
