"""`vk-provider check-config` says what a start would say, as far as the file alone can tell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vk_provider.cli import main
from vk_provider.errors import EXIT_BAD_START

NODE = '[[nodes]]\nname = "nodeless"\n\n'


def check(tmp_path: Path, text: str) -> int:
    path = tmp_path / "provider.toml"
    path.write_text(text)
    return main(["check-config", "--config", str(path)])


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, NODE) == 0
    assert capsys.readouterr().out == f"{tmp_path}/provider.toml is good: 1 node(s) on the local cloud\n"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[cloud]\nowner = "my cluster!"', "cloud.owner 'my cluster!'"),
        ('[cloud.local]\nname = "My_Cloud"', "name 'My_Cloud'"),
        ('[cloud.local]\nstate_dir = "relative"', "state_dir 'relative'"),
    ],
)
def test_what_the_cloud_would_refuse_is_said_before_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, says: str
) -> None:
    assert check(tmp_path, NODE + table) == EXIT_BAD_START
    said = capsys.readouterr().err
    assert said.startswith("vk-provider: ") and said.count("\n") == 1
    assert says in said


def test_an_installation_without_the_provider_extra_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "provider.toml"
    path.write_text(NODE)
    cached = ("vk_provider.app", "vk_provider.leader", "vk_provider.kubelets", "vk_provider.kubelet.access.auth")
    for name in [name for name in sys.modules if name.startswith(cached)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cachetools", None)
    assert main(["run", "--config", str(path)]) == EXIT_BAD_START
    assert capsys.readouterr().err == (
        "vk-provider: the package cachetools is missing; pip install 'vk-provider[provider]'\n"
    )
