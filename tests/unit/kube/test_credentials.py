"""Credentials from an exec plugin: a real program that answers, fails, lies or hangs."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from pathlib import Path

import pytest

from vk_provider.errors import BadStartError
from vk_provider.kube import credentials as credentials_module
from vk_provider.kube import execplugin
from vk_provider.kube.credentials import Credentials

API_VERSION = "client.authentication.k8s.io/v1"


class Plugin:
    """A shell script as plugin, and a kubeconfig that names it. `runs` counts how often it was started."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / "get-token"
        self.kubeconfig = directory / "kubeconfig"
        user = {"exec": {"apiVersion": API_VERSION, "command": str(self.path), "interactiveMode": "Never"}}
        config = {
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        self.kubeconfig.write_text(json.dumps(config))

    def does(self, script: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"#!/bin/sh\necho $$ >> {self.directory}/runs\n{script}\n")
        new.chmod(0o755)
        new.replace(self.path)

    def gives(self, token: str, life_s: float = 840.0, **changes: str) -> None:
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=life_s)
        status = {"token": token, "expirationTimestamp": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")}
        document = {"apiVersion": API_VERSION, "kind": "ExecCredential", "status": status, **changes}
        self.does(f"echo '{json.dumps(document)}'")

    def hangs(self) -> None:
        """So does its child, which holds the output open."""
        self.does(f"sleep 600 & echo $! > {self.directory}/child; wait")

    @property
    def runs(self) -> int:
        return len((self.directory / "runs").read_text().split())

    async def child_ended(self) -> None:
        async with asyncio.timeout(30):
            while self._child_runs():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)

    def _child_runs(self) -> bool:
        try:
            stat = Path(f"/proc/{int((self.directory / 'child').read_text())}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError, ValueError):  # killed before it had written
            return False
        return stat.rpartition(") ")[2].split()[0] not in "ZX"


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def loaded(plugin: Plugin) -> Credentials:
    made = Credentials(str(plugin.kubeconfig))
    await made.load()
    return made


async def test_a_plugin_that_hangs_at_the_start_is_one_line_and_is_killed_with_its_children(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execplugin, "TIME_LIMIT_S", 0.3)
    plugin.hangs()
    with pytest.raises(BadStartError, match=r"get-token gave no credential within 0.3 s and was killed$") as caught:
        await loaded(plugin)
    assert "\n" not in str(caught.value)
    await plugin.child_ended()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo denied >&2; echo really >&2; exit 3", "get-token failed with exit code 3: denied really$"),
        ("echo no json", "get-token gave no ExecCredential$"),
        ("echo '[1]'", "get-token gave no ExecCredential$"),
        (f"""echo '{{"apiVersion": "{API_VERSION}", "kind": "ExecCredential", "status": {{}}}}'""", "neither a token"),
        ("""echo '{"apiVersion": "v0", "kind": "ExecCredential", "status": {"token": "t"}}'""", "speaks v0, the kube"),
    ],
)
async def test_a_plugin_that_fails_or_lies_is_one_line(plugin: Plugin, script: str, message: str) -> None:
    plugin.does(script)
    with pytest.raises(BadStartError, match=message):
        await loaded(plugin)


async def test_a_plugin_that_does_not_exist_is_one_line(plugin: Plugin) -> None:
    with pytest.raises(BadStartError, match="get-token cannot be started: No such file or directory"):
        await loaded(plugin)


async def test_requests_go_on_with_the_old_token_while_the_plugin_hangs(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin.gives("old")
    credentials = await loaded(plugin)
    monkeypatch.setattr(execplugin, "TIME_LIMIT_S", 0.3)
    plugin.hangs()
    credentials._renew_at = 0.0
    for _ in range(100):
        assert await asyncio.wait_for(credentials.authorization(), 0.25) == "Bearer old"
    assert credentials._job is not None
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(asyncio.shield(credentials._job), 30)
    assert "get-token gave no credential within 0.3 s and was killed" in caplog.text
    assert plugin.runs == 2
    await plugin.child_ended()
    assert await credentials.authorization() == "Bearer old"
    assert plugin.runs == 2, "it is not run again at once"
    await credentials.close()


async def test_a_new_token_is_fetched_ahead_of_the_end_of_the_old_one(plugin: Plugin) -> None:
    plugin.gives("old", life_s=1000.0)
    credentials = await loaded(plugin)
    now = asyncio.get_running_loop().time()
    assert now + 780 < credentials._renew_at < now + 820
    plugin.gives("new")
    credentials._renew_at = 0.0
    assert await credentials.authorization() == "Bearer old"
    assert credentials._job is not None
    await credentials._job
    assert await credentials.authorization() == "Bearer new"
    assert credentials._job is None and plugin.runs == 2


async def test_a_token_that_has_run_out_is_waited_for_but_not_for_ever(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.gives("old")
    credentials = await loaded(plugin)
    plugin.gives("new")
    credentials._renew_at = credentials._expires_at = 0.0
    assert await credentials.authorization() == "Bearer new"
    monkeypatch.setattr(credentials_module, "_WAIT_S", 0.01)
    plugin.hangs()
    credentials._renew_at = credentials._expires_at = 0.0
    assert await asyncio.wait_for(credentials.authorization(), 30) == "Bearer new"
    await credentials.close()
    await plugin.child_ended()


async def test_after_a_401_the_plugin_runs_once_for_all_who_wait(plugin: Plugin) -> None:
    plugin.gives("old")
    credentials = await loaded(plugin)
    plugin.gives("new")
    assert await asyncio.gather(*(credentials.reload() for _ in range(5))) == [True] * 5
    assert await credentials.authorization() == "Bearer new"
    assert await credentials.reload() is False and plugin.runs == 2
