"""Programs the images need in a form Debian does not ship: compiled once with gcc into the image cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.cache import file_lock
from tests.cluster.errors import ClusterError
from tests.cluster.images import debian
from tests.cluster.progress import Progress

SOURCES = Path(__file__).with_name("src")
# Upstream's defaults, but linked statically, and without tc, which needs kernel headers of another time.
BUSYBOX_OPTIONS = {"CONFIG_STATIC": "y", "CONFIG_TC": "n"}
_TOOLS_NEXT_STEP = "python -m tests.cluster.packages install"


def _require(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise ClusterError(f"no {tool} on PATH", _TOOLS_NEXT_STEP)


def compile_static(name: str, directory: Path) -> Path:
    """The static binary of src/<name>.c, kept in `directory` under the hash of its source."""
    source = SOURCES / f"{name}.c"
    output = directory / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if output.exists():
        return output
    _require("gcc")
    directory.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(f".{os.getpid()}")
    command = ["gcc", "-Os", "-static", "-s", "-Wall", "-Wno-unused-value", "-o", str(temporary), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ClusterError(f"{source.name} does not compile: {ran.stderr.strip()[-500:]}", _TOOLS_NEXT_STEP)
    temporary.rename(output)
    return output


def busybox(directory: Path) -> Path:
    """busybox as upstream configures it, from Debian's source package; about a minute the first time.

    Debian's own binary cannot stand in for the busybox image: its shell drops environment variables whose names
    are no shell names (`data-1`) and runs its applets before the programs of PATH.
    """
    options = repr(sorted(BUSYBOX_OPTIONS.items()))
    key = hashlib.sha256(f"{debian.installed_version('busybox-static')} {options}".encode()).hexdigest()[:16]
    output = directory / f"busybox-{key}"
    if output.exists():
        return output
    _require("gcc", "make", "bzip2")
    with file_lock(directory / "busybox.lock", "another build of busybox is running, waiting for it", sys.stderr):
        if not output.exists():
            _build_busybox(output)
    return output


def _build_busybox(output: Path) -> None:
    progress = Progress("building busybox from Debian's source package", sys.stderr)
    work = Path(tempfile.mkdtemp(prefix=".busybox-", dir=output.parent))
    try:
        tarball = debian.download_source("busybox", work)
        tree = work / "tree"
        tree.mkdir()
        subprocess.run(["tar", "-xf", str(tarball), "-C", str(tree), "--strip-components=1"], check=True)
        _make(tree, progress, "defconfig")
        config = tree / ".config"
        config.write_text(apply_options(config.read_text(), BUSYBOX_OPTIONS))
        _make(tree, progress, f"-j{os.cpu_count() or 1}", "busybox")
        (tree / "busybox").rename(output)
        progress.done(f"{output.stat().st_size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def apply_options(config: str, options: dict[str, str]) -> str:
    """A Kconfig file with `options` set (`y`) or unset (`n`)."""
    for name, value in options.items():
        line = f"{name}=y" if value == "y" else f"# {name} is not set"
        config = re.sub(rf"^(?:# )?{name}[= ].*$", line, config, flags=re.MULTILINE)
    return config


def _make(tree: Path, progress: Progress, *arguments: str) -> None:
    log = tree / "make.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["nice", "-n", "5", "make", *arguments],
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KBUILD_BUILD_TIMESTAMP": "", "SOURCE_DATE_EPOCH": "0"},
        )
        try:
            while True:
                try:
                    code = process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    progress.tick()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise ClusterError(f"make {' '.join(arguments)} of busybox failed:\n{tail}", _TOOLS_NEXT_STEP)
