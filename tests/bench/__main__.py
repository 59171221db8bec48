"""`python -m tests.bench [--only NAME...]`: measure, print JSON lines, renew these sections of RESULTS.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from tests.bench import (
    agent,
    burst,
    clusterip,
    images,
    machine,
    mesh,
    network,
    one_pod,
    report,
    services,
    streams,
    tables,
)
from tests.bench.cluster import BenchCluster
from tests.bench.command import run_alone
from tests.bench.figure import Figure

Measure = Callable[[BenchCluster], Coroutine[Any, Any, list[Figure]]]

BENCHMARKS: dict[str, Measure] = {
    "one_pod": one_pod.measure,
    "streams": streams.measure,
    "agent": agent.measure,
    "services": services.measure,
    "tables": tables.measure,
    "clusterip": clusterip.measure,
    "network": network.measure,  # after those that shall not see thousands of Services
    "images": images.measure,
    "mesh": mesh.measure,
    "burst": burst.measure,  # the last: it leaves thousands of pods behind
}
BY_NAME = ("mesh",)
"""Those that need Istio, which takes longer to build than they take."""


def main(arguments: list[str] | None = None) -> int:
    """0; 1 when a benchmark failed; 3 with one line on stderr when the machine cannot run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(BENCHMARKS),
        default=[name for name in BENCHMARKS if name not in BY_NAME],
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; {', '.join(BY_NAME)} only when it is named",
    )
    options = parser.parse_args(arguments)
    return run_alone("bench", lambda: _measure(options.only))


def _measure(names: list[str]) -> int:
    cluster = BenchCluster()
    sections: dict[str, report.Section] = {}
    try:
        cluster.down()
        cluster.up()
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                with machine.observed() as head:
                    figures = asyncio.run(BENCHMARKS[name](cluster))
            except (RuntimeError, OSError, LookupError, aiohttp.ClientError):
                traceback.print_exc()  # the other benchmarks are worth their time all the same
                continue
            sections[name] = report.Section(head, figures)
            for figure in figures:
                print(figure.to_json(), flush=True)
    finally:
        cluster.down()
    report.write(sections)
    return 0 if len(sections) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
