"""The provider's end of the launcher process, see zygote.py."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vk_provider.aiokit import openfiles
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_LAUNCH_TIMEOUT_S = 30.0


class Launcher:
    """Starts instances' first processes. Replaces its process when it died or hangs."""

    def __init__(self, environment: dict[str, str], log_path: Path, *, preload: bool) -> None:
        self._environment = environment
        self._log_path = log_path
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready: asyncio.Future[dict[str, Any]] | None = None
        self._waiting: dict[str, asyncio.Future[ProcessIdentity]] = {}
        self._answered_at = 0.0
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the process if it does not run; returns when it is ready for launches."""
        async with self._starting:
            if self._socket is not None:
                return
            await self._reap()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = await asyncio.to_thread(self._spawn, theirs)
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            self._socket, self._ready = ours, loop.create_future()
            loop.add_reader(ours, self._on_readable)
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    answer = await self._ready
            except TimeoutError:
                self._drop("the launcher process does not answer")
                raise CloudError("local cloud: the launcher process does not answer") from None
            if self._preload and answer["preload_error"]:
                log.warning("the agent cannot be preloaded, instances start it anew: %s", answer["preload_error"])

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "vk_provider.cloud.local.zygote", str(theirs.fileno())]
        argv.append("preload" if self._preload else "bare")
        with open(self._log_path, "ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
            )
        openfiles.restore_limit(process.pid)  # instances, and so containers, have what the provider was started with
        return process

    async def launch(self, directory: Path) -> ProcessIdentity:
        """Start the instance whose directory holds a boot.json. Raises CloudError with the reason."""
        await self.start()
        key = str(directory)
        assert self._socket is not None
        future = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            self._socket.send(key.encode())
            async with asyncio.timeout(_LAUNCH_TIMEOUT_S):
                identity: ProcessIdentity = await future
                return identity
        except TimeoutError:
            if time.monotonic() - self._answered_at >= _LAUNCH_TIMEOUT_S:
                self._drop("the launcher process does not answer")  # not only slow: the next launch makes a new one
            raise CloudError(f"local cloud: no first process of the instance after {_LAUNCH_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise CloudError(f"local cloud: the launcher process does not answer: {error}") from None
        finally:
            self._waiting.pop(key, None)

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop("the launcher process has ended, see " + str(self._log_path))
            return
        self._answered_at = time.monotonic()
        answer = json.loads(data)
        if "ready" in answer:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(answer)
            return
        future = self._waiting.get(answer["directory"])
        if future is None or future.done():
            return
        if "error" in answer:
            future.set_exception(CloudError(f"InternalError: {answer['error']}"))
        else:
            future.set_result(ProcessIdentity(answer["pid"], answer["start_ticks"]))

    def _drop(self, reason: str) -> None:
        """Forget the connection; the next launch makes a new one."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for future in (self._ready, *self._waiting.values()):
            if future is not None and not future.done():
                future.set_exception(CloudError(f"local cloud: {reason}"))

    async def close(self) -> None:
        """End the launcher process; instances stay."""
        self._drop("closed")
        await self._reap()

    async def _reap(self) -> None:
        """Wait for the end of a process that has lost its connection."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, 5)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
