"""Build a binary once into the user's cache.

`python -m tests.cluster.build controlplane|e2e|agnhost|ginkgo|metrics-server|coredns|kwok|containerd|...`

The last line on stdout is the path of the binary; progress goes to stderr. A binary is found again by the hash of its
sources, module versions and flags, so a second call takes milliseconds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from tests.cluster.cache import cache_dir, file_lock
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress
from tests.cluster.prune import mark_used, remove_unused
from tests.cluster.targets import Target, targets

_PLENTY_BYTES = 12 * 2**30
"""Free memory from which on the compiler may collect its garbage less often: a sixth less CPU."""
INSTALL_GO = "install Go from https://go.dev/dl (unpack into /usr/local, add /usr/local/go/bin to PATH), then try again"


def built_path(name: str) -> Path:
    """Where the binary of the target `name` is, or will be once built."""
    target = targets()[name]
    return cache_dir() / "bin" / f"{target.name}-{target.key()}" / target.file


def ensure(name: str, out: TextIO | None = None) -> Path:
    """The path of the binary of the target `name`, built first when the cache has none. Raises ClusterError."""
    out = out or sys.stderr
    path = built_path(name)
    if not path.exists():
        waiting = f"another build of {name} is running, waiting for it"
        with file_lock(cache_dir() / "bin" / f"{name}.lock", waiting, out):
            if not path.exists():
                _remove_interrupted(targets()[name], path.parent.parent)
                _build(targets()[name], path.parent, out)
                _remove_older(targets()[name], path.parent, out)
    mark_used(path.parent)
    return path


def _remove_interrupted(target: Target, directory: Path) -> None:
    """What builds that were killed have left; the caller holds the lock, so none is running."""
    for path in directory.glob(f".{target.name}-*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove_older(target: Target, newest: Path, out: TextIO) -> None:
    builds = [path for path in newest.parent.iterdir() if re.fullmatch(rf"{target.name}-[0-9a-f]{{16}}", path.name)]
    for path in remove_unused(builds, newest):
        print(f"removed {path}: an older build that was not used for two weeks", file=out, flush=True)


def _build(target: Target, directory: Path, out: TextIO) -> None:
    _check_go(target)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=directory.parent))
    try:
        staging.chmod(0o755)
        count = _count_packages(target, out)
        _compile(target, staging / target.file, count, out)
        for link in target.links:
            (staging / link).symlink_to(target.file)
        staging.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _environment() -> dict[str, str]:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > _PLENTY_BYTES:
        environment.setdefault("GOGC", "400")
    return environment


def _check_go(target: Target) -> None:
    """Refuse early when go is missing, or older than the module wants and not allowed to fetch its successor."""
    if not shutil.which("go"):
        raise ClusterError(f"{target.name} is built from Go modules, and there is no go on PATH", INSTALL_GO)
    ran = subprocess.run(["go", "list", "-m"], cwd=target.module, env=_environment(), capture_output=True, text=True)
    if ran.returncode:
        wanted = re.search(r"^go (\S+)", (target.module / "go.mod").read_text(), re.MULTILINE)
        asked = wanted[1] if wanted else "a newer version"
        raise ClusterError(
            f"go cannot work with {target.module} (it asks for go {asked}): {ran.stderr.strip()}",
            f"{INSTALL_GO}; or let go fetch the right version itself: export GOTOOLCHAIN=auto",
        )


def _count_packages(target: Target, out: TextIO) -> int:
    """How many packages there are to compile; fetches the modules on the way."""
    tests = ["-test"] if target.test_binary else []
    command = ["go", "list", *tests, "-deps", "-f", "{{.ImportPath}}", target.package]
    progress = Progress(f"fetching Go modules for {target.name}", out)
    lines = _run_go(command, target, progress, lambda done: f"{done} modules")
    count = sum(not line.startswith("go: ") for line in lines)  # "go: downloading ..." are modules on their way
    progress.done(f"{count} packages")
    return count


def _compile(target: Target, output: Path, count: int, out: TextIO) -> None:
    print(f"building {target.name} once into {cache_dir()} ({target.takes})", file=out, flush=True)
    progress = Progress(f"building {target.name}", out)
    # `go test` does not name the packages that it compiles.
    counted = not target.test_binary
    compiled = _run_go(
        target.command(output),
        target,
        progress,
        lambda done: f"{done} of at most {count} packages" if counted else target.takes,
    )
    if not output.exists():
        raise ClusterError(f"go build of {target.name} wrote no binary", "look at the lines above")
    progress.done(f"{output.stat().st_size / 1e6:.0f} MB" + (f", {len(compiled)} packages" if counted else ""))


def _run_go(command: list[str], target: Target, progress: Progress, say: Callable[[int], str]) -> list[str]:
    """Run go at low priority, ticking while it works (`say`: what, by the number of lines so far); its lines of output,
    or ClusterError with the last of them."""
    # go ends with this process, also when that is killed.
    ours = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*ours, "nice", "-n", "5", *command],
        cwd=target.module,
        env=_environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: deque[str] = deque()
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), name="go-output", daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            progress.tick(say(len(lines)))
            reader.join(1)
        status = process.wait()
    finally:
        if process.poll() is None:
            progress.end_line()
            process.terminate()
            process.wait()
        reader.join(5)
        if not reader.is_alive():  # else compilers that go leaves behind still write to it
            process.stdout.close()
    if status:
        progress.end_line()
        raise _failure(target, command, [line.rstrip() for line in lines])
    return list(lines)


def _failure(target: Target, command: list[str], lines: list[str]) -> ClusterError:
    tail = "\n".join(line for line in lines[-15:])
    if re.search(r"dial tcp|proxy|no such host|TLS handshake|i/o timeout|connection refused", tail):
        advice = "Go modules could not be fetched: check the network, or set GOPROXY to a proxy you can reach"
    elif "no space left" in tail:
        advice = "free 12 GB in the Go build cache's file system (go env GOCACHE GOMODCACHE), then try again"
    elif re.search(r"signal: killed|cannot allocate memory", tail):
        advice = "the build was killed, probably for lack of memory: try again with GOMAXPROCS=1, or with 4 GB free"
    else:
        advice = f"run it by hand: cd {target.module} && CGO_ENABLED=0 {' '.join(command)}"
    return ClusterError(f"building {target.name} failed:\n{tail}", advice)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0, or 3 with what went wrong on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.build", description=__doc__)
    parser.add_argument("target", nargs="+", choices=sorted(targets()))
    return run_to_end(parser.parse_args(argv).target, lambda name: print(ensure(name), flush=True))


def run_to_end(names: Sequence[str], make: Callable[[str], object]) -> int:
    """`make` each; the exit code: 0, 3 with what went wrong on stderr, 130 when interrupted (SIGINT or SIGTERM)."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in names:
            make(name)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; what was compiled is kept\nnext:  the same command goes on from there", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
