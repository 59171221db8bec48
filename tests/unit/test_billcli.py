"""`vk-provider instances` and `vk-provider cost` against an API server that passes on to Nodes, and against a file."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.ledger.model import Cloud, Process, owner
from tests.unit.test_netcli import ApiServer, write_kubeconfig
from vk_provider.cli import main
from vk_provider.errors import EXIT_BAD_START
from vk_provider.rfc3339 import format_time


def report(usd: float, key: str = "shop") -> dict[str, Any]:
    row = {
        "key": [key],
        "instances": 1,
        "seconds": 3600.0,
        "usd": usd,
        "diskUsd": 0.0,
        "estimatedUsd": 0.0,
        "unpricedSeconds": 0.0,
    }
    return {
        "source": "ledger",
        "by": ["namespace"],
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-01-08T00:00:00Z",
        "rows": [row],
        "total": {**row, "key": []},
        "notes": ["a note\x1b[2J"],
    }


INSTANCE = {
    "instance": "i-1",
    "type": "l1.small",
    "zone": "local-a",
    "capacity": "spot",
    "state": "running",
    "stage": "assigned",
    "since": "2026-01-01T00:00:00Z",
    "usdPerHour": 0.0262,
    "diskUsdPerHour": 0.0022,
    "rootGiB": 20,
    "storeGiB": 0,
    "dataGiB": 0,
    "pool": "",
    "namespace": "shop",
    "pod": "web",
    "witness": "agent",
}


class Cluster(ApiServer):
    """nodes: name -> providerID."""

    nodes = {"n1": "vk-provider://demo/n1", "n2": "vk-provider://demo/n2", "metal": "kind://metal"}
    answers: dict[str, tuple[int, Any]] = {}

    async def _start(self) -> str:
        self.more = [("/api/v1/nodes", self._list)]
        return await super()._start()

    async def _list(self, request: web.Request) -> web.Response:
        items = [{"metadata": {"name": name}, "spec": {"providerID": given}} for name, given in self.nodes.items()]
        return web.json_response({"items": items})

    async def _node(self, request: web.Request) -> web.Response:
        self.answer = self.answers.get(request.match_info["node"], self.answer)
        return await super()._node(request)


@pytest.fixture
def api() -> Any:
    made = Cluster()
    made.answers = {}
    yield made
    made.stop()


@pytest.fixture
def run(api: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    kubeconfig = write_kubeconfig(tmp_path / "config", api.start())

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--kubeconfig", str(kubeconfig)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_each_of_our_nodes_is_asked_for_the_same_time_and_the_answers_are_one(api: Cluster, run: Any) -> None:
    api.answers = {"n1": (200, report(1.0)), "n2": (200, report(2.0))}
    code, out, err = run("cost", "--by", "namespace", "--since", "7d")
    assert (code, err) == (0, "") and "\x1b" not in out
    assert "shop" in out and "3.0000" in out and "total" in out
    assert {path for path, _ in api.asked} == {f"/api/v1/nodes/{node}/proxy/bill/cost" for node in ("n1", "n2")}
    queries = [query for _, query in api.asked]
    assert queries[0] == queries[1] and queries[0]["source"] == "ledger" and float(queries[0]["since"]) > 0


def test_tags_one_node_and_the_other_forms(api: Cluster, run: Any) -> None:
    api.answer = (200, report(1.0))
    code, out, _ = run("cost", "--from-tags", "--node", "n2", "-o", "json")
    assert code == 0 and json.loads(out) == {**report(1.0)}
    assert [(path, query["source"]) for path, query in api.asked] == [("/api/v1/nodes/n2/proxy/bill/cost", "tags")]
    code, out, _ = run("cost", "--node", "n2", "-o", "csv")
    assert list(csv.reader(io.StringIO(out)))[1][:3] == ["shop", "1", "1.00"]


def test_instances_of_all_nodes_the_oldest_first(api: Cluster, run: Any) -> None:
    young = {**INSTANCE, "instance": "i-2", "since": "2026-01-02T00:00:00Z", "pod": "", "usdPerHour": None}
    api.answers = {"n1": (200, {"instances": [young]}), "n2": (200, {"instances": [INSTANCE]})}
    code, out, _ = run("instances")
    head, first, second = out.splitlines()
    assert code == 0 and head.split() == ["INSTANCE", "TYPE", "STATE", "FOR", "AGE", "USD/H"]
    assert first.split()[0] == "i-1" and first.split()[-1] == "0.0262"
    assert second.split()[0] == "i-2" and second.split()[-1] == "-"
    assert json.loads(run("instances", "-o", "json")[1]) == [INSTANCE, young]


def test_the_table_of_instances_fits_a_terminal_and_says_how_one_ends(api: Cluster, run: Any) -> None:
    since = format_time(time.time() - 7500)
    rows = [{**INSTANCE, "since": since}, {**INSTANCE, "instance": "i-2", "since": "soon", "state": "shutting-down"}]
    api.answers = {"n1": (200, {"instances": []}), "n2": (200, {"instances": rows})}
    head, first, second = run("instances")[1].splitlines()
    assert max(map(len, (head, first, second))) <= 80
    assert first.split()[2:5:2] == ["assigned", "2h"] and second.split()[2:5:2] == ["shutting-down", "-"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cost", "--since", "soon"), "is no time"),
        (("cost", "--by", "colour"), "is none of"),
        (("cost", "--node", "metal"), "metal is not a Node of vk-provider; there are: n1, n2"),
    ],
)
def test_a_bad_question_has_an_exit_code_of_its_own(run: Any, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_a_cluster_without_a_node_of_ours_is_named(api: Cluster, run: Any) -> None:
    api.nodes = {"metal": "kind://metal"}
    assert run("instances")[0] == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, "404 page not found\n"), "of a version without this question"),
        ((403, "Forbidden \x1b[2J"), "Forbidden"),
        ((503, "the ledger cannot be used"), "the ledger cannot be used"),
        ((200, {"rows": []}), "of another version"),
        ((200, {**report(1.0), "rows": [{"key": "x"}]}), "of another version"),
    ],
)
def test_who_cannot_be_asked_is_no_answer(api: Cluster, run: Any, answer: tuple[int, Any], says: str) -> None:
    api.answer = answer
    code, out, err = run("cost")
    assert (code, out) == (EXIT_BAD_START, "") and says in err and "\x1b" not in err


def test_a_file_is_read_without_a_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "ledger")
    cloud = Cloud()
    process = Process(cloud, path)
    process.meter.see(cloud.launch())
    process.meter.assign("i-0", owner("shop", "web", app="front"))
    cloud.now += 3600
    process.flush()
    process.store.close()
    since, until = "1799999000", "1800003600"
    assert main(["cost", "--ledger", path, "--by", "label:app", "--since", since, "--until", until, "-o", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "front,1,1.00,0.2500,0.0000,0.0000,0.00"
    assert main(["cost", "--ledger", str(tmp_path / "nowhere")]) == EXIT_BAD_START
    assert "there is no ledger" in capsys.readouterr().err
    (tmp_path / "text").write_text("no database")
    assert main(["cost", "--ledger", str(tmp_path / "text")]) == EXIT_BAD_START
