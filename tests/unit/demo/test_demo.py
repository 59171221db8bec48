"""The demo's own logic: what it remembers, what it says when the machine is not as it should be."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.registry import Registry
from tests.cluster.state import StateDir
from tests.demo import __main__ as command
from tests.demo import cluster, environment, terminal
from tests.demo.environment import Environment


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Of no machine: whoever runs the tests as root has perhaps a demo of his own, whose network would go."""
    monkeypatch.setattr(cluster, "require_machine", lambda: None)
    monkeypatch.setattr(cluster, "local_cloud", lambda environment, verb: None)
    return Environment(tmp_path / "demo", "unit-test", subnet="127.0.0.0/8", address="127.0.0.1", healthz_port=0)


def test_how_a_demo_was_brought_up_is_remembered(demo: Environment) -> None:
    assert Environment.load(demo.root) is None
    demo.save()
    assert Environment.load(demo.root) == demo


def test_a_marker_of_another_version_or_a_torn_one_does_not_keep_demo_down_from_working(demo: Environment) -> None:
    demo.save()
    demo.marker.write_text(json.dumps({**json.loads(demo.marker.read_text()), "colour": "red"}))
    assert Environment.load(demo.root) == demo
    for torn in ('{"name": "de', "[]", "7"):
        demo.marker.write_text(torn)
        assert Environment.load(demo.root) is None


@pytest.mark.parametrize(
    "content", ["[]", "7", "null", "{}", '{"pid": "x", "started": 1}', '{"pid": -1, "started": 1}', ""]
)
def test_a_corrupt_pid_file_is_one_clear_line_and_an_exit_code(
    demo: Environment, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.save()
    demo.provider.pid_file.write_text(content)
    assert command.main(["down", "--root", str(demo.root)]) == 3
    said = capsys.readouterr().err
    assert f"error: {demo.provider.pid_file} is corrupt" in said and "next:  see whether provider still runs" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("content", ["[]", "7", '{"address": "a"}', '{"addr'])
def test_a_corrupt_marker_of_the_control_plane_is_one_clear_line(tmp_path: Path, content: str) -> None:
    state = StateDir(tmp_path)
    state.marker.write_text(content)
    with pytest.raises(ClusterError, match=r"cluster\.json is corrupt.*\nnext:  end what still runs"):
        state.require()


def test_a_provider_that_runs_older_code_has_another_configuration(
    demo: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vk_provider").mkdir()
    (tmp_path / "vk_provider/app.py").write_text("1")
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    first = demo.provider_config(Path("/k"), Path("/ca"))
    assert demo.provider_config(Path("/k"), Path("/ca")) == first
    (tmp_path / "vk_provider/app.py").write_text("2")
    assert demo.provider_config(Path("/k"), Path("/ca")) != first


def test_a_port_that_somebody_else_has_is_named_with_the_next_step(
    demo: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(cluster, "REGISTRY_PORT", port)
        monkeypatch.setattr(cluster, "_is_free", lambda address, wanted: wanted != port)
        with pytest.raises(ClusterError, match=rf"port {port}.*image registry(?s:.*)next:.*ss -ltnp"):
            cluster.require_ports(demo, cluster.control_plane(demo))
        monkeypatch.setattr(Registry, "running", True)  # our own may have it
        cluster.require_ports(demo, cluster.control_plane(demo))


def test_a_taken_port_is_told_from_an_address_that_is_not_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert not cluster._is_free("127.0.0.1", other.getsockname()[1])
    assert cluster._is_free("192.0.2.77", 80)


def test_what_cannot_be_taken_down_keeps_nothing_else_up_and_its_state_stays(
    demo: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def fail(environment: Environment, verb: str) -> None:
        raise ClusterError("an instance does not end", "look at it")

    monkeypatch.setattr(cluster, "local_cloud", fail)
    monkeypatch.setattr(ControlPlane, "down", lambda self: done.append("control plane"))
    monkeypatch.setattr(Registry, "down", lambda self: done.append("registry"))
    demo.save()
    with pytest.raises(ClusterError, match="does not end"):
        cluster.down(demo)
    assert done == ["control plane", "registry"] and demo.marker.exists()
    monkeypatch.setattr(cluster, "local_cloud", lambda environment, verb: None)
    cluster.down(demo)
    assert not demo.root.exists()
    cluster.down(demo)


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (ClusterError("no", "mend it"), 3), (OSError(28, "No space left on device"), 3)],
)
def test_an_early_end_says_what_is_up_and_what_to_do(
    raised: BaseException,
    code: int,
    demo: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(environment: Environment) -> None:
        environment.save()
        raise raised

    monkeypatch.setattr(cluster, "up", stop)
    assert command.main(["up", "--root", str(demo.root)]) == code
    said = capsys.readouterr().err
    assert "`make demo` goes on" in said and "`make demo-down` takes it away" in said and "Traceback" not in said
    assert command.main(["up", "--root", str(demo.root), "--cloud", "aws"]) == code
    assert "`make demo CLOUD=aws` goes on" in capsys.readouterr().err


def test_a_second_demo_at_the_same_time_is_refused_and_says_whom_to_wait_for(
    demo: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = ["down", "--root", str(demo.root)]
    inner: list[int] = []
    monkeypatch.setattr(cluster, "remove_bytecode", lambda: None)
    monkeypatch.setattr(cluster, "down", lambda environment: inner.append(command.main(down)))
    assert command.main(down) == 0 and inner == [3]
    said = capsys.readouterr().err
    assert "is at work" in said and f"kill {os.getpid()}" in said
    monkeypatch.setattr(cluster, "down", lambda environment: None)
    assert command.main(down) == 0


def test_on_a_terminal_a_steps_notes_stand_below_its_title(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_COLOR", True)
    with terminal.step("registry") as notes:
        print("image pushed", file=notes)
    lines = capsys.readouterr().out.split("\n")
    assert lines[0].endswith(" registry") and lines[1] == "image pushed" and "ok" in lines[2]
    with terminal.step("network"):
        pass
    assert "\r" in capsys.readouterr().out  # nothing in between: one line


def test_a_command_that_hangs_or_fails_ends_the_transcript_with_a_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = dict(os.environ)
    with pytest.raises(ClusterError, match=r"exit code 3\nnext:"):
        terminal.show([sys.executable, "-c", "raise SystemExit(3)"], "it", environment=values)
    monkeypatch.setattr(terminal, "LIMIT_S", 0.05)
    with pytest.raises(ClusterError, match=r"has not ended(?s:.*)next:"):
        terminal.show([sys.executable, "-c", "import time; time.sleep(60)"], "it", environment=values)
    with pytest.raises(ClusterError, match="apt-get install no-such-program"):
        terminal.show(["no-such-program"], environment=values)


def test_demo_down_leaves_no_bytecode_beside_the_code(
    demo: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "vk_provider/agent/__pycache__"
    cached.mkdir(parents=True)
    (cached / "app.cpython-311.pyc").touch()
    (tmp_path / "vk_provider/agent/app.py").touch()
    monkeypatch.setattr(cluster, "PROJECT", tmp_path)
    monkeypatch.setattr(cluster, "down", lambda environment: None)
    assert command.main(["down", "--root", str(demo.root)]) == 0
    assert [path.name for path in sorted((tmp_path / "vk_provider/agent").iterdir())] == ["app.py"]


def test_metrics_for_a_demo_that_does_not_run_names_the_next_step(
    demo: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["metrics", "--root", str(demo.root)]) == 3
    assert capsys.readouterr().err == "\nerror: no demo is running\nnext:  make demo\n"
