"""How the agent ends: its exit code and its last line."""

from __future__ import annotations

import logging

import pytest

from vk_provider.agent import app
from vk_provider.agent.network import NetworkError
from vk_provider.aiokit.supervisor import RootTaskError
from vk_provider.errors import EXIT_BAD_START, BadStartError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadStartError("cannot listen on 10.0.0.2:10251: Address already in use"), EXIT_BAD_START, "cannot listen on"),
        (NetworkError("nft is not installed on the instance"), 1, "cannot start: nft is not installed"),
        (RootTaskError("root task stats failed"), 1, "cannot go on"),
        (None, 0, ""),
    ],
)
def test_the_exit_code_says_whether_a_restart_can_help(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception | None, code: int, line: str
):
    async def run(agent: app.Agent) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(app.Agent, "run", run)
    with caplog.at_level(logging.ERROR):
        assert app.main([]) == code
    assert line in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, RootTaskError)
