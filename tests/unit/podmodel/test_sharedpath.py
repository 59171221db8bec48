"""Which paths a Node may share, and which hostPaths are shared then."""

from __future__ import annotations

import pytest

from vk_provider.podmodel.sharedpath import find_problem, find_shared_root


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tmp",
        "/var/tmp",
        "/etc/x",
        "/run/x",
        "/proc/x",
        "/var/lib/kubelet/x",
        "/var/lib/vk-agent",
        "tmp/x",
        "/tmp/../etc",
        "/tmp/x/",
        "/tmp//x",
        "//tmp/x",
        "/tmp/x\n",
        "/tmp/a:b",
        "/tmpx/y",
        "/opt/x",
    ],
)
def test_a_path_that_an_instance_needs_for_itself_is_not_shared(path: str) -> None:
    assert repr(path) in find_problem([path])


def test_a_node_shares_a_path_once() -> None:
    assert find_problem(["/tmp/a", "/tmp/ab", "/srv/a/b"]) == ""
    assert "twice" in find_problem(["/tmp/a", "/tmp/a"])
    assert "below '/tmp/a'" in find_problem(["/tmp/a/b", "/tmp/a"])
    assert "16 at most" in find_problem([f"/tmp/{n}" for n in range(17)])


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/tmp/a", "/tmp/a"),
        ("/tmp/a/", "/tmp/a"),
        ("//tmp//a/./b", "/tmp/a"),
        ("/tmp/./a/b/c", "/tmp/a"),
        ("/tmp/ab", ""),
        ("/tmp", ""),
        ("/", ""),
    ],
)
def test_a_host_path_at_or_below_a_shared_path_is_shared_however_it_is_written(path: str, root: str) -> None:
    assert find_shared_root(path, ["/tmp/a", "/srv/b"]) == root
