"""`vk-provider check-config` says what a start would say, as far as the file alone can tell."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vk_provider import __version__, pricescli
from vk_provider.cli import main
from vk_provider.cloud.base import MachineTraits, Offering
from vk_provider.cloud.pricelist import PriceList, PriceRow
from vk_provider.cloud.simulated.backend import BACKEND
from vk_provider.errors import EXIT_BAD_START

NODE = '[[nodes]]\nname = "nodeless"\n\n'


def check(tmp_path: Path, text: str) -> int:
    path = tmp_path / "provider.toml"
    path.write_text(text)
    return main(["check-config", "--config", str(path)])


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, NODE) == 0
    assert capsys.readouterr().out == f"{tmp_path}/provider.toml is good: 1 node(s) on the local cloud\n"


def test_the_version_is_a_command_and_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    said = capsys.readouterr().out
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == said == f"vk-provider {__version__}\n"


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


def prices(tmp_path: Path, *arguments: str) -> int:
    path = tmp_path / "provider.toml"
    path.write_text(NODE)
    return main(["prices", "--config", str(path), *arguments])


def test_prices_are_shown_as_a_table_of_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(tmp_path, "--type", "l1.*", "--zone", "*-a", "--capacity-type", "spot", "--limit", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Prices of the local cloud are invented: it costs what the machine costs"
    assert said[2].split() == ["TYPE", "ZONE", "CAPACITY", "ARCH", "CPU", "MEMORY", "GPU", "USD/HOUR", "AGE", "SOURCE"]
    assert [line.split()[0] for line in said[3:5]] == ["l1.nano", "l1.micro"]
    assert all(line.index("spot") == said[2].index("CAPACITY") for line in said[3:5]), "aligned"
    assert said[5] == "(4 more; --limit 0 shows all)"


def test_prices_are_a_document_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(tmp_path, "-o", "json", "--limit", "0") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["offerings"]) == 48 and document["notes"]
    assert {"instance_type", "price_per_hour", "source", "priced_at", "traits"} <= document["offerings"][0].keys()


def test_a_price_says_its_age_its_surcharge_and_what_is_not_known() -> None:
    burst = MachineTraits(baseline_cpu_milli=400, burst_price_per_cpu=0.05)
    gpu = MachineTraits(gpu_name="A10G")
    rows = [
        PriceRow(Offering("t3.small", "a", "spot", "amd64", 2000, 2**31, 0.0208, 0, burst), "Pricing API", 1000.0),
        PriceRow(Offering("g5.xlarge", "a", "spot", "amd64", 4000, 2**34, 1.006, 1, gpu), "estimate"),
        PriceRow(Offering("m1.old", "*", "on-demand", "", 0, 0, 0.5), "bundled table", 4600.0),
    ]
    text = pricescli.render(PriceList(rows, ("A note",)), 1000.0 + 7300)
    assert text.splitlines()[0] == "A note"
    cells = [" ".join(line.split()) for line in text.splitlines()[3:]]
    assert cells == [
        "t3.small a spot amd64 2 2Gi 0.0208 2h Pricing API (+0.05 a CPU above 400m)",
        "g5.xlarge a spot amd64 4 16Gi 1 A10G 1.0060 - estimate",
        "m1.old * on-demand - - - 0.5000 61m bundled table",
    ]


def test_a_cloud_that_does_not_tell_its_prices_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricescli, "find_backend", lambda settings: (replace(BACKEND, price_list=None), None))
    assert prices(tmp_path) == EXIT_BAD_START
    assert capsys.readouterr().err == "vk-provider: the simulated cloud does not tell its prices\n"
