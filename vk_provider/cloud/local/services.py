"""The metadata service's life: started with the cloud, outlives the provider, replaced when its code is old."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import vk_provider
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.metadata import code_version
from vk_provider.cloud.local.process import ProcessIdentity, end_process
from vk_provider.errors import BadStartError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 3.0
_MODULE = "vk_provider.cloud.local.metadata"


def project_root() -> str:
    """Directory that holds the package, for PYTHONPATH."""
    return str(Path(vk_provider.__file__).resolve().parent.parent)


def build_environment(first: Sequence[str] = ()) -> dict[str, str]:
    """Environment of all processes of the cloud: nothing of the provider's own, which may hold secrets. `first`:
    directories that programs are looked for before the usual ones."""
    path = ":".join(dict.fromkeys([*first, *_PATH.split(":")]))
    return {"PATH": path, "PYTHONPATH": project_root(), "HOME": "/root", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def metadata_running(config: LocalCloudConfig) -> bool:
    identity = ProcessIdentity.read(config.root / "metadata.pid")
    return identity is not None and identity.is_alive()


async def ensure_metadata(config: LocalCloudConfig) -> None:
    """Start the metadata service if it does not run; returns when it answers. Raises BadStartError."""
    if _is_current(config):
        return
    if metadata_running(config):
        await stop_metadata(config)
    await asyncio.to_thread(_start_once, config)


def _is_current(config: LocalCloudConfig) -> bool:
    try:
        return metadata_running(config) and (config.root / "metadata.version").read_text() == code_version()
    except FileNotFoundError:
        return False


async def stop_metadata(config: LocalCloudConfig) -> None:
    identity = ProcessIdentity.read(config.root / "metadata.pid")
    if identity is not None and not await end_process(identity, signal.SIGTERM, _END_TIMEOUT_S):
        await end_process(identity, signal.SIGKILL, _END_TIMEOUT_S)
    (config.root / "metadata.pid").unlink(missing_ok=True)


def _start_once(config: LocalCloudConfig) -> None:
    """Start it unless another process just did: of two, one could not listen, and its pid file might stay."""
    with open(config.root / "metadata.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current(config):
            end_strays(config)
            _start(config)


def end_strays(config: LocalCloudConfig) -> None:
    """End those that no pid file names any more, since the state directory was removed while they ran (blocking): they
    have the address that a new one needs, and nobody else would end them."""
    try:
        pids = run_command(["ip", "netns", "pids", config.namespace]).split()
    except CommandError:
        return  # no namespace, so nobody is in it
    for pid in map(int, pids):
        try:
            stray = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                signal.pidfd_send_signal(stray, signal.SIGKILL)
                select.select([stray], [], [], _END_TIMEOUT_S)
        except (FileNotFoundError, ProcessLookupError):
            pass
        finally:
            os.close(stray)


def _start(config: LocalCloudConfig) -> None:
    (config.root / "metadata.pid").unlink(missing_ok=True)
    argv = ["nsenter", f"--net={config.namespace_path}", sys.executable, "-m", _MODULE]
    argv += [config.name, config.subnet, config.state_dir]
    log_path = config.root / "metadata.log"
    with open(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=build_environment(),
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not metadata_running(config):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log_path.read_text(errors="replace").splitlines()
            raise BadStartError(
                f"local cloud: the metadata service does not start: {lines[-1] if lines else 'no output'}"
            )
        time.sleep(0.02)
    process.returncode = 0  # it outlives us: no warning "subprocess still running" at our exit
