"""Rotation of container logs: 10 MiB, five files. Source: pkg/kubelet/logs/container_log_manager.go (v1.37)."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import time
from pathlib import Path

from vk_provider.agent.runtime import ContainerRuntime

MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 5


async def rotate_log(runtime: ContainerRuntime, container_id: str, path: str) -> bool:
    """Rotate a running container's log when it is too big; return whether it was.

    The newest rotated file stays readable text, older ones are compressed. Raises OSError, RuntimeServiceError.
    """
    rotated = await asyncio.to_thread(_move_away, Path(path))
    if rotated is None:
        return False
    try:
        await runtime.reopen_container_log(container_id)
    except BaseException:
        _move_back(rotated, Path(path))
        raise
    return True


def _move_away(log_file: Path) -> Path | None:
    try:
        if log_file.stat().st_size < MAX_BYTES:
            return None
    except FileNotFoundError:
        return None
    _clean_up(log_file)
    rotated = log_file.with_name(f"{log_file.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    os.rename(log_file, rotated)
    return rotated


def _move_back(rotated: Path, log_file: Path) -> None:
    """The runtime still writes to the old file: keep it where readers look."""
    if not log_file.exists():
        os.rename(rotated, log_file)


def _clean_up(log_file: Path) -> None:
    """Compress what was rotated before, drop what is too old."""
    rotated = sorted(path for path in log_file.parent.glob(f"{log_file.name}.*") if not path.name.endswith(".tmp"))
    for path in rotated[: max(0, len(rotated) - (MAX_FILES - 2))]:
        path.unlink(missing_ok=True)
    for path in rotated[max(0, len(rotated) - (MAX_FILES - 2)) :]:
        if path.suffix == ".gz":
            continue
        temporary = path.with_name(path.name + ".tmp")
        with path.open("rb") as source, gzip.open(temporary, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        os.replace(temporary, path.with_name(path.name + ".gz"))
        path.unlink()
