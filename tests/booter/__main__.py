"""`python -m tests.booter up|run|status|down|interrupt|rebalance`: see the package."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

import aiohttp
from aiohttp import web

from tests.booter.api import ApiError, Ec2Api
from tests.booter.booter import Booter
from vk_provider.cloud.base import TAG_NAME
from vk_provider.cloud.local import cli, network
from vk_provider.cloud.local.config import LocalCloudConfig, default_cache_dir
from vk_provider.cloud.local.settings import DEFAULT_STATE_DIR
from vk_provider.cloud.local.store import InstanceStore
from vk_provider.errors import EXIT_BAD_START, BadStartError, CloudError

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = LocalCloudConfig(
        name=options.name,
        subnet=options.subnet,
        state_dir=os.path.abspath(options.state_dir),
        cache_dir=os.path.abspath(options.cache_dir),
        preload=tuple(options.image),
        nameservers=tuple(options.nameserver),
        registries={host: {"plain_http": True} for host in options.plain_http},
        boot_credit_s=options.boot_credit_s,
    )
    commands = {"up": _up, "run": _run, "status": _status, "down": _down, "interrupt": _ask, "rebalance": _ask}
    try:
        return asyncio.run(commands[options.command](config, options))
    except BadStartError as error:
        log.error("%s", error)
        return EXIT_BAD_START
    except (CloudError, OSError) as error:
        log.error("%s", error)
        return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.booter", description=__doc__)
    parser.add_argument("command", choices=("up", "run", "status", "down", "interrupt", "rebalance"))
    parser.add_argument("instance", nargs="?", default="", help="of interrupt and rebalance: a spot instance's ID")
    parser.add_argument("--endpoint", default="http://127.0.0.1:5000", help="URL of the moto server (%(default)s)")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--name", default="ec2", help="of bridge, namespace and control groups (%(default)s)")
    parser.add_argument("--subnet", default="10.202.0.0/16", help="of the VPC whose instances boot (%(default)s)")
    parser.add_argument("--state-dir", default=DEFAULT_STATE_DIR)
    parser.add_argument("--cache-dir", default=default_cache_dir())
    parser.add_argument("--image", action="append", default=[], help="that every instance has: what its AMI has")
    parser.add_argument("--plain-http", action="append", default=[], metavar="HOST:PORT", help="registry without TLS")
    parser.add_argument("--nameserver", action="append", default=[])
    parser.add_argument("--boot-credit-s", type=float, default=10.0, help="seconds without a CPU quota")
    parser.add_argument("--after-s", type=float, default=120.0, help="of interrupt: how long the notice is")
    parser.add_argument("--action", choices=("terminate", "stop"), default="terminate", help="of interrupt")
    return parser.parse_args(arguments)


async def _up(config: LocalCloudConfig, _: argparse.Namespace) -> int:
    """The network alone: other services of a test listen on this machine's address in it."""
    await asyncio.to_thread(network.ensure, config)
    print(f"{config.subnet}, this machine is {config.host_ip}")
    return 0


async def _status(config: LocalCloudConfig, options: argparse.Namespace) -> int:
    """What the server lists, and whether a sandbox of it lives."""
    api = Ec2Api(options.endpoint, options.region)
    try:
        machines = await api.list_machines()
    except ApiError as error:
        raise CloudError(str(error)) from None
    finally:
        api.close()
    store = InstanceStore(config)
    rows = [("INSTANCE", "STATE", "TYPE", "CAPACITY", "ZONE", "ADDRESS", "POD'S", "SANDBOX", "NAME")]
    for each in sorted(machines, key=lambda machine: machine.launched):
        identity = store.identity(each.instance_id)
        sandbox = f"pid {identity.pid}" if identity is not None and identity.is_alive() else "-"
        capacity, name = "spot" if each.spot else "on-demand", each.tags.get(TAG_NAME) or "-"
        head = (each.instance_id, each.state, each.instance_type, capacity, each.zone)
        rows.append((*head, each.primary_ip or "-", each.pod_ip or "-", sandbox, name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


async def _run(config: LocalCloudConfig, options: argparse.Namespace) -> int:
    """Until SIGTERM: then everything is taken away. After SIGKILL the next run goes on with what is there."""
    with _lock(config):
        _socket(config).unlink(missing_ok=True)
        api = Ec2Api(options.endpoint, options.region)
        booter = Booter(api, config)
        running = asyncio.create_task(booter.run(), name="booter")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        control = await _control(booter, _socket(config))
        try:
            await running
        except asyncio.CancelledError:
            pass
        finally:
            await control.cleanup()
            api.close()
        await booter.end_all()
    return await cli._down(config, argparse.Namespace())


def _lock(config: LocalCloudConfig) -> TextIO:
    """A file that is held while a booter serves this name."""
    config.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = open(config.root / "booter.lock", "w")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise BadStartError(f"another booter serves {config.name}") from None
    return lock


async def _down(config: LocalCloudConfig, _: argparse.Namespace) -> int:
    """Take away what a killed booter has left."""
    return await cli._down(config, argparse.Namespace())


def _socket(config: LocalCloudConfig) -> Path:
    return config.root / "booter.sock"


async def _control(booter: Booter, path: Path) -> web.AppRunner:
    """What the cloud does by itself, ordered by whoever tests: JSON over HTTP on a unix socket."""

    async def interrupt(request: web.Request) -> web.Response:
        wanted = await request.json()
        found = booter.interrupt(request.match_info["id"], float(wanted["after_s"]), str(wanted["action"]))
        return web.Response(status=200 if found else 404)

    async def rebalance(request: web.Request) -> web.Response:
        return web.Response(status=200 if booter.recommend_rebalance(request.match_info["id"]) else 404)

    async def states(_: web.Request) -> web.Response:
        return web.json_response({"ready": booter.ready.is_set(), "instances": dict(booter.states())})

    app = web.Application()
    app.router.add_post("/instances/{id}/interrupt", interrupt)
    app.router.add_post("/instances/{id}/rebalance", rebalance)
    app.router.add_get("/instances", states)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner


async def _ask(config: LocalCloudConfig, options: argparse.Namespace) -> int:
    wanted = {"after_s": options.after_s, "action": options.action}
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(_socket(config)))) as http,
        http.post(f"http://booter/instances/{options.instance}/{options.command}", json=wanted) as response,
    ):
        if response.status != 200:
            raise CloudError(f"{options.instance} is no spot instance that runs")
    print(json.dumps({"instance": options.instance, options.command: wanted if options.after_s else {}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
