"""The instance's resolv.conf, read as a kubelet reads its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vk_provider.agent.worker.sandbox import resolv_conf
from vk_provider.agent.worker.sandbox.resolv_conf import read_resolv_conf
from vk_provider.podmodel.errors import ResolvConfError


def test_bytes_that_are_no_text_cost_nothing_else_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"# caf\xe9\nnameserver 192.0.2.53\n")
    assert read_resolv_conf(path).endswith("\nnameserver 192.0.2.53\n")


def test_a_missing_file_is_an_error_in_the_kubelets_words(tmp_path: Path) -> None:
    with pytest.raises(ResolvConfError, match=r"^open .*/resolv\.conf: no such file or directory$"):
        read_resolv_conf(tmp_path / "resolv.conf")


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolv_conf, "MAX_BYTES", 16)
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0")
    assert read_resolv_conf(path) == "nameserver 10.0"
    path.write_text("nameserver 10.0.0.1")
    with pytest.raises(ResolvConfError, match="the read limit is reached"):
        read_resolv_conf(path)
