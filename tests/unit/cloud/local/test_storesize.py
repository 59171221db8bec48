"""How large a prepared store may become while it is made: by real commands that write without an end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.password_registry import make_image, make_layer
from vk_provider.cloud.local import builder, command
from vk_provider.cloud.local.builder import BuildOrder
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.storesize import SizeLimit, measure
from vk_provider.cloud.local.takeover import CONTENT, Sources, TooLargeError, collect

LIMIT = 4 << 20
IMAGE = make_image([make_layer({"a": b"1" * 1000})])
NAME = "host/team/a:1"


def write_program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def write_endless(path: Path, file: str) -> str:
    """A program that writes on until it is killed, or for 2 GiB, and notes its process."""
    return write_program(path, f"echo $$ > {path}.pid\nexec head -c 2147483648 /dev/zero > {file}")


def has_ended(path: str) -> bool:
    return not Path("/proc", Path(f"{path}.pid").read_text().strip()).exists()


@contextmanager
def no_containerd(*_: Any, **__: Any) -> Iterator[str]:
    yield "/run/none.sock"


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildOrder:
    """As a cloud gives it; `ctr` is a program of the test, which needs no containerd."""
    monkeypatch.setattr(builder, "run_containerd", no_containerd)
    plain = tmp_path / "plain"
    (plain / "tree").mkdir(parents=True)
    (plain / "tree/large").write_bytes(b"x" * 2 * LIMIT)
    return BuildOrder(
        containerd_path="/none",
        ctr_path="/none",
        version=(1, 7, 0),
        base=str(plain),
        plain=str(plain),
        target=str(tmp_path / "target"),
        images=((NAME, IMAGE.digest),),
        stores=(),
        disks=(),
        others=(),
        max_bytes=LIMIT,
        reserve_bytes=0,
        registries={},
    )


def test_what_is_fetched_is_no_more_than_the_store_may_have(order: BuildOrder, tmp_path: Path) -> None:
    ctr = write_endless(tmp_path / "ctr", f"{order.target}/fetched/blob")
    with pytest.raises(TooLargeError, match=f"more than {LIMIT} bytes of content"):
        builder.fetch(replace(order, ctr_path=ctr))
    assert has_ended(ctr)
    assert (Path(order.target) / "fetched/blob").stat().st_size < 2 << 30


def test_what_is_fetched_at_once_counts_too(order: BuildOrder, tmp_path: Path) -> None:
    """The images together, also where each is written faster than anybody looks."""
    part = f"head -c {LIMIT * 2 // 3} /dev/zero >>"
    one = replace(order, ctr_path=write_program(tmp_path / "one", f"{part} {order.target}/fetched/blob"))
    fetched = builder.fetch(one)
    assert fetched.disks == (f"{order.target}/fetched",) and fetched.registries is None
    both, target = (*order.images, ("host/team/b:1", IMAGE.digest)), f"{order.target}-2"
    ctr = write_program(tmp_path / "two", f"{part} {target}/fetched/blob")
    with pytest.raises(TooLargeError):
        builder.fetch(replace(one, ctr_path=ctr, images=both, target=target))


@pytest.mark.parametrize("has_layers", [True, False], ids=["pulled", "imported"])
def test_what_is_unpacked_is_no_more_than_the_store_may_have(
    order: BuildOrder, tmp_path: Path, has_layers: bool
) -> None:
    """The base is twice as large, and does not count."""
    content = (tmp_path / "disk").joinpath(*CONTENT)
    content.mkdir(parents=True)
    for digest, (kind, data) in IMAGE.parts.items():
        if has_layers or "layer" not in kind and "tar" not in kind:
            (content / digest.removeprefix("sha256:")).write_bytes(data)
    target, tree = Path(order.target), Path(order.target) / "tree"
    sources = Sources([], [tmp_path / "disk"])
    collection = collect([IMAGE.digest], sources, target / "blobs", LIMIT)
    assert bool(collection.lacking) is not has_layers
    tree.mkdir()
    os.link(tmp_path / "plain/tree/large", tree / "large")
    snapshots = " ".join(each.chain_id for each in collection.lacking.values())
    ctr = write_program(
        tmp_path / "ctr",
        f'case "$*" in *snapshots*) echo {snapshots}; exit;; esac\n'
        f"echo $$ > {tmp_path}/ctr.pid\nexec head -c 2147483648 /dev/zero > {tree}/layer",
    )
    with pytest.raises(TooLargeError, match=f"more than {LIMIT} bytes unpacked"):
        builder._pull(replace(order, ctr_path=ctr), collection, target, tree)
    assert has_ended(ctr)


def test_a_command_that_is_watched_answers_as_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "WATCH_S", 0.01)
    looks: list[float] = []

    def look() -> None:
        looks.append(time.monotonic())

    assert run_command(["sh", "-c", "sleep 0.2; cat; echo b"], text="a\n", watch=look) == "a\nb\n"
    assert len(looks) > 1
    with pytest.raises(CommandError, match="broken"):
        run_command(["sh", "-c", "echo broken >&2; exit 3"], watch=look)
    with pytest.raises(CommandError, match="not found"):
        run_command([str(tmp_path / "none")], watch=look)
    with pytest.raises(CommandError, match="no end after 0.1 s"):
        run_command(["sleep", "30"], timeout_s=0.1, watch=look)


def test_what_goes_away_while_it_is_measured_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays").write_bytes(b"x" * 50_000)
    (tmp_path / "goes").mkdir()
    scandir = os.scandir

    def remove_first(path: str) -> Any:
        if path.endswith("goes"):
            (tmp_path / "goes").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    limit = SizeLimit(tmp_path, 100_000, "of content")
    limit.check()
    limit.check()
    (tmp_path / "more").write_bytes(b"x" * 60_000)
    with pytest.raises(TooLargeError):
        limit.check()


def test_a_store_is_measured_by_what_it_adds(tmp_path: Path) -> None:
    base, target = tmp_path / "base", tmp_path / "target"
    for directory in (base, target):
        directory.mkdir()
    (base / "shared").write_bytes(b"x" * 100_000)
    os.link(base / "shared", target / "shared")
    (target / "own").write_bytes(b"x" * 50_000)
    os.link(target / "own", target / "same")
    assert 50_000 <= measure(target, base) < 100_000
