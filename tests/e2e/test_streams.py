"""exec, attach and port-forward through API server, provider and agent."""

from __future__ import annotations

import socket
import subprocess
import urllib.request

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace
from tests.e2e.until import until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    echo = 'echo ready; while read line; do echo "got $line"; done; echo end of input; sleep 1'
    serve = f"mkdir /www; echo hello > /www/index.html; httpd -p 8080 -h /www; {SLEEP}"
    namespace.apply(
        pod("shell", container(image, serve)),
        pod("reader", container(image, echo, stdin=True, stdinOnce=True), restartPolicy="Never"),
    )
    namespace.wait_ready("shell")
    return namespace


def test_exec_passes_output_apart_and_the_exit_code(world: Namespace) -> None:
    result = world.execute("shell", "echo out; echo err >&2; exit 42", check=False)
    assert (result.returncode, result.stdout) == (42, "out\n")
    assert result.stderr.startswith("err\n")


def test_exec_passes_standard_input_to_its_end(world: Namespace) -> None:
    text = "".join(f"line {number}\n" for number in range(20000))
    result = world.execute("shell", "wc -lc", "-i", stdin=text)
    assert result.stdout.split() == ["20000", str(len(text))]


def test_exec_passes_binary_and_large_output_unchanged(world: Namespace) -> None:
    result = world.execute("shell", "dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\000' x")
    assert len(result.stdout) == 20 << 20 and set(result.stdout) == {"x"}


def test_exec_of_a_missing_program_says_so(world: Namespace) -> None:
    result = world.kubectl("exec", "shell", "--", "/no/such/program", check=False)
    assert result.returncode != 0
    assert "no such file or directory" in result.stderr


def test_exec_enters_a_container_whose_post_start_hook_runs(world: Namespace) -> None:
    hook = {"exec": {"command": ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done"]}}
    world.apply(pod("hooked", container(world.nodeless.image, SLEEP, lifecycle={"postStart": hook})))
    until("exec ends the hook", lambda: world.execute("hooked", "touch /tmp/go", check=False).returncode == 0)
    world.wait_ready("hooked")


def test_attach_sees_output_and_feeds_standard_input(world: Namespace) -> None:
    world.wait_ready("reader")
    until("the reader runs", lambda: world.logs("reader") == "ready\n")
    with world.background("attach", "-i", "reader") as attached:
        assert attached.stdin is not None and attached.stdout is not None
        attached.stdin.write("one\n")
        attached.stdin.flush()
        lines = [attached.stdout.readline()]
        while "got" not in lines[-1]:  # kubectl may say first that it waits for a prompt
            assert lines[-1], f"attach ended early: {lines}"
            lines.append(attached.stdout.readline())
        assert lines[-1] == "got one\n"
        attached.stdin.close()
        attached.wait(60)
    world.wait_phase("reader", "Succeeded")
    assert world.logs("reader") == "ready\ngot one\nend of input\n"


def test_attach_of_standard_error_beside_a_terminal_is_refused_as_by_a_kubelet(world: Namespace) -> None:
    world.apply(pod("terminal", container(world.nodeless.image, SLEEP, tty=True)))
    world.wait_ready("terminal")
    result = world.kubectl("attach", "terminal", check=False)
    assert result.returncode == 1
    assert "code = InvalidArgument desc = tty and stderr cannot both be true" in result.stderr


def test_port_forward_carries_http(world: Namespace) -> None:
    port = _free_port()
    with world.background("port-forward", "pod/shell", f"{port}:8080") as forward:
        assert forward.stdout is not None
        assert forward.stdout.readline().startswith("Forwarding from 127.0.0.1")
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert answer.read() == b"hello\n"
        curl = subprocess.run(
            ["curl", "-sS", "--max-time", "30", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
        )
        assert curl.stdout == "hello\n"


def test_port_forward_to_a_port_nobody_listens_on_fails_and_does_not_hang(world: Namespace) -> None:
    port = _free_port()
    with world.background("port-forward", "pod/shell", f"{port}:9") as forward:
        assert forward.stdout is not None
        forward.stdout.readline()
        with pytest.raises(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60):
            pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
