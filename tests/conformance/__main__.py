"""Run Kubernetes' own specs against a cluster: `python -m tests.conformance --kubeconfig K --registry HOST:PORT`, or
against one of its own, brought up for the run and taken down after it: `python -m tests.conformance --own-cluster`.

Interrupt it with Ctrl-C and call it again the same way: only specs without a result are run, on the cluster that was
left up for them. Exit code 0: all passed, 1: some failed, 3: could not run, 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from tests.cluster import build, containerd2
from tests.cluster.cache import cache_dir, only_one
from tests.cluster.errors import ClusterError
from tests.cluster.images.__main__ import ensure_pushed
from tests.conformance import own_cluster
from tests.conformance.own_cluster import CONFORMANCE, DUAL_STACK
from tests.conformance.run import Plan, Run, say
from tests.conformance.selection import NODE_CONFORMANCE, Selection, parse_name_list
from tests.conformance.suite import Programs
from tests.demo.environment import Environment


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG"), help="default $KUBECONFIG")
    parser.add_argument("--registry", metavar="HOST:PORT", help="the registry images are pushed to")
    parser.add_argument("--own-cluster", action="store_true", help="bring up a cluster for the run, and down after it")
    parser.add_argument("--dual-stack", action="store_true", help="--own-cluster is one with IPv4 and IPv6")
    parser.add_argument("--keep", action="store_true", help="leave the cluster of --own-cluster up")
    parser.add_argument("--down", action="store_true", help="take down the cluster that --own-cluster has left, no run")
    parser.add_argument("--procs", type=int, default=4, help="specs at a time (4)")
    parser.add_argument("--label-filter", default=NODE_CONFORMANCE, help=f"ginkgo labels ({NODE_CONFORMANCE})")
    parser.add_argument("--focus", default="", help="regular expression on spec names")
    parser.add_argument("--skip", default="", help="regular expression on spec names")
    parser.add_argument("--list", type=Path, metavar="FILE", help="run the specs named in a file, one a line")
    parser.add_argument("--fresh", action="store_true", help="forget the results of an unfinished run")
    parser.add_argument("--failed", action="store_true", help="run the failed specs of the last run again")
    parser.add_argument("--only", default="", metavar="REGEX", help="with --failed: of those, the ones it matches")
    parser.add_argument("--state", type=Path, default=cache_dir() / "conformance", metavar="DIR", help="journals, logs")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the results page here")
    parser.add_argument("--no-images", action="store_true", help="the registry has the images: build and push none")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    if not options.registry:
        raise ClusterError("no registry for the images", "pass --registry HOST:PORT, or --own-cluster")
    if options.kubeconfig is None or not Path(options.kubeconfig).is_file():
        raise ClusterError(f"no kubeconfig {options.kubeconfig or ''}".rstrip(), "pass --kubeconfig or set KUBECONFIG")
    if options.procs < 1:
        raise ClusterError("--procs must be at least 1")
    names: tuple[str, ...] = ()
    if options.list:
        try:
            names = parse_name_list(options.list.read_text())
        except OSError as error:
            raise ClusterError(f"cannot read the list of specs: {error}") from None
    kubectl = shutil.which("kubectl") or str(build.ensure("controlplane").with_name("kubectl"))
    return Plan(
        selection=Selection(options.label_filter, options.focus, options.skip, names),
        programs=Programs(build.ensure("e2e"), build.ensure("ginkgo"), Path(kubectl)),
        kubeconfig=Path(options.kubeconfig).absolute(),
        registry=options.registry,
        state=options.state.absolute(),
        processes=options.procs,
        fresh=options.fresh,
        failed_only=options.failed,
        failed_matching=options.only,
        results=options.results,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _arguments().parse_args(arguments)
    environment = DUAL_STACK if options.dual_stack else CONFORMANCE
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C: ginkgo must not be left behind
    has_cluster = options.down or options.own_cluster
    try:
        with only_one(environment.lock, "`make conformance`") if has_cluster else nullcontext():
            return _run(options, environment)
    except ClusterError as error:
        say(f"error: {error}")
        return 3
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        return 130


def _run(options: argparse.Namespace, environment: Environment) -> int:
    if options.down:
        own_cluster.down(environment)
        return 0
    if options.own_cluster:
        containerd2.ensure()
        plane = own_cluster.up(environment)
        options.kubeconfig, options.registry = plane.kubeconfig, environment.registry
    plan = _plan(options)
    if not options.no_images:
        if not options.own_cluster:  # with which they came
            ensure_pushed(options.registry, "e2e")
        ensure_pushed(options.registry, "aggregator")
    code = Run(plan).execute()
    if options.own_cluster and not options.keep:
        own_cluster.down(environment)
    return code


if __name__ == "__main__":
    sys.exit(main())
