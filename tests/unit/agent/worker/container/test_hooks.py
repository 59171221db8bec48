"""What the status says of a hook that failed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from vk_provider.agent.runtime import ExecResult
from vk_provider.agent.worker.container.hooks import HookError, HookRunner


class FailingExec:
    """A runtime in which every command fails."""

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        return ExecResult(b'said "a"\n', b"no b\n", 7)


async def test_a_failed_command_is_told_in_the_kubelets_words() -> None:
    runtime: Any = FailingExec()
    nothing: Any = None
    hooks = HookRunner(runtime, nothing, nothing)
    with pytest.raises(HookError) as caught:
        await hooks.run(pod(), container("main"), {"exec": {"command": ["sh", "-c", "x"]}}, "main-1", "10.0.0.3")
    assert str(caught.value) == (
        'Exec lifecycle hook ([sh -c x]) for Container "main" in Pod "web_default(u1)" failed - '
        "error: command 'sh -c x' exited with 7: no b\n"
        ', message: "said \\"a\\"\\nno b\\n"'
    )
