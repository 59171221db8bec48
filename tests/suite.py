"""The whole test suite: `python -m tests.suite`. Two streams share the processors, because tests of pods mostly wait.

Beside: what some tests need built, then the tests that start no containers. In front: the tests that start instances
and clusters, first those that need no further build. Exit code 0: all passed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from tests.cluster import build
from tests.cluster.errors import ClusterError

DOOR, METRICS_SERVER = "tests/hostile/test_door.py", "tests/integration/test_metrics_server.py"
PURE = ("tests/unit", "tests/simulation", DOOR)
"""Need no root, no namespace and no build."""
APART = tuple(f"tests/integration/{room}" for room in ("aws", "catalog", "explain", "netpolicy", "serviceproxy"))
"""Start no containers: a stand-in of EC2, API servers, and network namespaces with names of their own."""
FIRST = ("tests/contract", "tests/integration", "tests/hostile")
LAST = (METRICS_SERVER, "tests/conformance", "tests/dualstack", "tests/e2e", "tests/ec2")
"""Need BUILDS."""
BY_HAND = ("tests/mesh", "tests/mixed")
"""Their builds take longer than CI has: targets of their own."""
BUILDS = ("e2e", "ginkgo", "agnhost", "metrics-server", "coredns")
BESIDE_NICE = 5
"""The tests in front have more time limits of other programs."""
LONGEST = ("--durations", "30", "--durations-min", "5")


def main() -> int:
    """0; 1 when a test failed or something could not be built; 130 when interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        beside = subprocess.Popen(
            [sys.executable, "-m", "tests.suite", "beside"],
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=lambda: os.nice(BESIDE_NICE),
        )
        try:
            codes = [_test(*FIRST, *(f"--ignore={path}" for path in (DOOR, METRICS_SERVER, *APART)))]
            codes.append(_build() or _test(*LAST))
            print("waiting for the builds and tests beside", flush=True)
            codes.append(beside.wait())
        except KeyboardInterrupt:
            return 130
        finally:
            if beside.poll() is None:
                os.killpg(beside.pid, signal.SIGINT)
                beside.wait()
            output.seek(0)
            print(output.read().decode(errors="replace"), f"beside: {time.monotonic() - started:.0f} s", flush=True)
    return int(any(codes))


def run_beside() -> int:
    """The stream that waits for nobody."""
    return _build() or _test(*PURE, *APART)


def _build() -> int:
    """Where another stream builds the same, wait for it."""
    try:
        for name in BUILDS:
            build.ensure(name)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


def _test(*arguments: str) -> int:
    """Whatever ends this process, pytest takes down what it has started."""
    running = subprocess.Popen([sys.executable, "-m", "pytest", *arguments, *LONGEST])
    try:
        return running.wait()
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            running.wait()


if __name__ == "__main__":
    sys.exit(run_beside() if sys.argv[1:] == ["beside"] else main())
