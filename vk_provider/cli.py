"""The command line: `vk-provider run | instances | cost | prices | net | agent | local-cloud | version`. Only
composition starts here.

Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong usage, 3 cannot start as configured (do not restart).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vk_provider import __version__
from vk_provider.errors import EXIT_BAD_START, BadStartError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; all but the provider's own commands parse their own arguments: an instance lacks the provider's
    packages."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["agent"]:
            from vk_provider.agent.app import main as agent_main

            return agent_main(arguments[1:])
        if arguments[:1] == ["local-cloud"]:
            from vk_provider.cloud.local.cli import main as local_cloud_main

            return local_cloud_main(arguments[1:])
        if arguments[:1] == ["net"]:
            return _net(arguments[1:])
        if arguments[:1] in (["instances"], ["cost"]):
            return _bill(arguments)
        if arguments[:1] == ["prices"]:
            return _prices(arguments[1:])
        return _provider(arguments)
    except BadStartError as error:
        print(f"vk-provider: {error}", file=sys.stderr)
        return EXIT_BAD_START
    except KeyboardInterrupt:
        return 130


def _net(arguments: list[str]) -> int:
    try:
        from vk_provider.netcli import main as net_main
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return net_main(arguments)


def _bill(arguments: list[str]) -> int:
    try:
        from vk_provider.billcli import main as bill_main
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return bill_main(arguments)


def _prices(arguments: list[str]) -> int:
    try:
        from vk_provider.pricescli import main as prices_main
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return prices_main(arguments)


def _missing(error: ModuleNotFoundError) -> BadStartError:
    """Without the extra, as an instance has it: the agent runs, the provider cannot."""
    return BadStartError(f"the package {error.name} is missing; pip install 'vk-provider[provider]'")


def _provider(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="vk-provider", description="A Kubernetes node without a machine behind it.")
    parser.add_argument("--version", action="version", version=f"vk-provider {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="register the configured Nodes and run their pods")
    run.add_argument("--config", required=True, metavar="FILE", help="TOML configuration")
    check = commands.add_parser("check-config", help="read the configuration and report errors in it")
    check.add_argument("--config", required=True, metavar="FILE", help="TOML configuration")
    commands.add_parser("instances", help="what runs, for which pod and at what price (see --help of it)")
    commands.add_parser("cost", help="what instances have cost, by namespace, label and more (see --help of it)")
    commands.add_parser("net", help="why a pod can connect to something or cannot (see `vk-provider net --help`)")
    commands.add_parser("prices", help="what the cloud offers and at what price (see `vk-provider prices --help`)")
    commands.add_parser("agent", help="the agent on an instance (see `vk-provider agent --help`)")
    commands.add_parser("local-cloud", help="the embedded cloud's network (see `vk-provider local-cloud --help`)")
    commands.add_parser("version", help="print the version")
    options = parser.parse_args(arguments)
    if options.command == "version":
        print(f"vk-provider {__version__}")
        return 0
    from vk_provider.settings import load_settings

    settings = load_settings(options.config)
    if options.command == "check-config":
        from vk_provider.clouds import check_cloud

        check_cloud(settings)
        print(f"{options.config} is good: {len(settings.nodes)} node(s) on the {settings.cloud.backend} cloud")
        return 0
    try:
        from vk_provider.app import run as run_provider
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return run_provider(settings)
