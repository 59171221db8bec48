"""`python -m tests.bench.ec2 [--only NAME...]`: measure, print a JSON line per figure, renew RESULTS-EC2.md."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.bench import machine, report
from tests.bench.command import run_alone
from tests.bench.ec2 import catalog, launches, warm
from tests.bench.ec2.rig import surroundings
from tests.bench.figure import Figure
from tests.cluster.controlplane import ControlPlane
from tests.moto.server import MotoServer

BENCHMARKS = ("sizing", "catalog", "launches", "warm")


def main(arguments: list[str] | None = None) -> int:
    """0; 3 with one line on stderr when the machine cannot run it. Any other failure is raised."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ec2", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=BENCHMARKS,
        default=list(BENCHMARKS),
        help=f"of {', '.join(BENCHMARKS)}",
    )
    options = parser.parse_args(arguments)
    return run_alone("bench-ec2", lambda: _measure_all(options.only))


def _measure_all(names: list[str]) -> int:
    sections: dict[str, report.Section] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with machine.observed() as head:
            figures = _measure(name)
        sections[name] = report.Section(head, figures)
        for figure in figures:
            print(figure.to_json(), flush=True)
    report.write(sections, "Benchmarks of EC2", "-ec2")
    return 0


def _measure(name: str) -> list[Figure]:
    if name == "sizing":
        return catalog.measure_sizing()
    if name == "catalog":
        with MotoServer() as moto:
            return catalog.measure_catalog(moto)
    if name == "warm":
        return warm.measure()
    with surroundings() as (plane, moto):
        return asyncio.run(_launches(plane, moto))


async def _launches(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    await launches.warm(plane, moto)
    return await launches.measure(plane, moto)


if __name__ == "__main__":
    sys.exit(main())
