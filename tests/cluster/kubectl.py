"""Run kubectl, from plain code or from an event loop (where what it calls may live in the same loop)."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Result:
    """What kubectl printed and returned."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def require_success(self) -> Result:
        """Itself. Raises ClusterError with stderr when kubectl failed."""
        if self.returncode:
            raise ClusterError(f"kubectl {' '.join(self.args)} failed with {self.returncode}: {self.stderr.strip()}")
        return self


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One kubectl with one kubeconfig. `home` keeps its cache and the user's own .kube apart."""

    program: Path
    kubeconfig: Path
    home: Path

    def run(self, args: Sequence[str], stdin: str | None = None, timeout_s: float = 60) -> Result:
        """Run to the end. Raises subprocess.TimeoutExpired."""
        ran = subprocess.run(
            self._command(args),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._environment(),
            check=False,
        )
        return Result(tuple(args), ran.returncode, ran.stdout, ran.stderr)

    async def run_async(self, args: Sequence[str], stdin: str | None = None, timeout_s: float = 60) -> Result:
        """The same without blocking the event loop; kubectl is killed when cancelled. Raises TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            *self._command(args),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(None if stdin is None else stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Result(tuple(args), process.returncode or 0, _text(out), _text(err))

    def _command(self, args: Sequence[str]) -> list[str]:
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *args]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home)}


def _text(output: bytes) -> str:
    """Whatever a container has written is shown."""
    return output.decode(errors="replace")
