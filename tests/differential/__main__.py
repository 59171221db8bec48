"""Play the same pods on this node and on a real kubelet: `python -m tests.differential --seed 7 --pairs 500`.

Exit code 0: no difference that is not on the list of known ones (with --fault: each was found), 1: some (not), 3: could
not run, 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.cluster.cache import cache_dir, only_one
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.differential import mixed, putback
from tests.differential.arena import Arena
from tests.differential.case import Case, read_cases
from tests.differential.faults import FAULTS
from tests.differential.grammar.generate import generate
from tests.differential.known import KNOWN, unexplained
from tests.differential.run import Plan, Run, say


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the random cases; default: a new one")
    parser.add_argument("--pairs", type=int, default=500, help="how many random cases (500)")
    parser.add_argument("--first", type=int, default=0, help="number of the first random case (0)")
    parser.add_argument("--cases", type=Path, metavar="DIR", help="manifests with the annotation diff/actions instead")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="one manifest; prints every difference")
    parser.add_argument("--record", type=Path, metavar="DIR", help="with --cases: keep what the kubelet did there")
    parser.add_argument(
        "--fault", choices=(*FAULTS, "all"), help="put it back and play the recorded cases that must find it, no run"
    )
    parser.add_argument("--slots", type=int, default=8, help="pairs at a time (8)")
    parser.add_argument("--trials", type=int, default=24, help="runs for shrinking a kind, 0: none (24)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--down", action="store_true", help="take down the cluster that --keep has left, no run")
    parser.add_argument("--page", type=Path, metavar="FILE", help="the page of results (default: in the cache)")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    directory = cache_dir() / "differential"
    if options.cases or options.replay:
        path = options.cases or options.replay
        try:
            cases = read_cases(path)
        except (ValueError, OSError) as error:
            raise ClusterError(f"cannot read the cases: {error}") from None
        plan = Plan(cases, str(path), options.slots, directory / "cases", KNOWN, options.page, 0)
        return replace(
            plan, record=options.record, registry=mixed.DIFFERENTIAL.registry, confirm=options.record is None
        )
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    say(f"seed {seed}")
    cases = [generate(seed, options.first + index) for index in range(options.pairs)]
    return Plan(cases, str(seed), options.slots, directory / str(seed), KNOWN, options.page, options.trials)


async def _run(plane: ControlPlane, plan: Plan, *, replay: bool) -> int:
    async with Arena(plane, mixed.NODES, mixed.DIFFERENTIAL.registry, plan.slots) as arena:
        if replay:
            return await _replay(arena, plan.cases[0])
        return await Run(plan, arena.play).execute()


async def _replay(arena: Arena, case: Case) -> int:
    """Play one case and say all that differs."""
    pair = await arena.play(case)
    if pair.refused:
        say(f"refused by the API server: {pair.refused}")
    for history in pair.histories:
        for name, answer in history.answers.items():
            say(f"{history.node}: {name}: {answer}")
    left = unexplained(pair.differences)
    for difference in pair.differences:
        print(f"{'' if difference in left else '(known) '}{difference}\n")
    say(f"{case.name}: {len(pair.differences)} differences, {len(left)} unexplained, {pair.seconds:.0f} s")
    return 1 if left else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _arguments().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with only_one(cache_dir() / "differential.lock", "`make differential`"):
            return _work(options)
    except ClusterError as error:
        say(f"error: {error}")
        return 3
    except KeyboardInterrupt:
        say("interrupted; --down takes the cluster away, the same command plays on it again")
        return 130


def _work(options: argparse.Namespace) -> int:
    if options.down:
        mixed.down()
        putback.down()
        return 0
    if options.fault:
        found = putback.put_back(tuple(FAULTS) if options.fault == "all" else (options.fault,))
        return 0 if all(found.values()) else 1
    plan = _plan(options)
    plane = mixed.up()
    code = asyncio.run(_run(plane, plan, replay=bool(options.replay)))
    if not options.keep:
        mixed.down()
    return code


if __name__ == "__main__":
    sys.exit(main())
