"""What the process that agents are forked from has after the warm-up, and what it has not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from vk_provider.cloud.local import zygote

SCRIPT = """
import hashlib, json, os, ssl, sys, threading
from vk_provider.cloud.local import zygote

assert zygote.preload_agent() == ""
descriptors = sorted(os.listdir("/proc/self/fd"))
zygote.warm_up_agent()
from vk_provider.agent.certificates import create_credentials

def fork():
    reader, writer = os.pipe()
    if os.fork() == 0:
        before = set(sys.modules)
        made = create_credentials("i-1.instance.vk-provider.internal")
        late = sorted(set(sys.modules) - before)
        secrets = [hashlib.sha256(made.key_pem.encode()).hexdigest(), ssl.RAND_bytes(16).hex(), os.urandom(16).hex()]
        os.write(writer, json.dumps({"secrets": secrets, "late": late}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        return json.load(file)

found = {
    "threads": [each.name for each in threading.enumerate()],
    "descriptors": sorted(os.listdir("/proc/self/fd")) == descriptors,
    "forks": [fork(), fork()],
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warmup")


@pytest.fixture(scope="module")
def found(directory: Path) -> dict[str, Any]:
    environment = {**os.environ, "TMPDIR": str(directory)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_nothing_is_left_that_a_fork_would_lack_or_share(found: dict[str, Any], directory: Path):
    assert found["threads"] == ["MainThread"]
    assert found["descriptors"]
    assert list(directory.iterdir()) == []


def test_a_fork_has_what_agents_load_late(found: dict[str, Any]):
    assert [each["late"] for each in found["forks"]] == [[], []]


def test_forks_make_keys_and_random_numbers_of_their_own(found: dict[str, Any]):
    first, second = (each["secrets"] for each in found["forks"])
    assert not set(first) & set(second)


def test_instances_start_without_a_warm_up_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(zygote, "AGENT_WARM_UP", "vk_provider.agent.no_such_module")
    zygote.warm_up_agent()
    assert "no_such_module" in capsys.readouterr().err


def test_a_launch_does_not_wait_for_the_warm_up(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    order: list[list[str]] = []

    def fork() -> int:
        order.append(list(done))
        return 1

    monkeypatch.setattr(zygote.os, "fork", fork)
    monkeypatch.setattr(zygote, "IDLE_S", 0.05)
    monkeypatch.setattr(zygote, "warm_up_agent", lambda: done.append("warm-up"))
    monkeypatch.setattr(zygote, "_freeze", lambda: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"/instance")
        serving = threading.Thread(target=zygote.serve, args=(theirs, "agent"))
        serving.start()
        until = time.monotonic() + 10
        while not done and time.monotonic() < until:
            time.sleep(0.01)
        ours.send(b"/another")
        ours.shutdown(socket.SHUT_WR)
        serving.join(10)
    assert order == [[], ["warm-up"]]
    assert done == ["warm-up"]
