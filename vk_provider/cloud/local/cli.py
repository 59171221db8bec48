"""`vk-provider local-cloud up | down | status | golden`: the local cloud without a provider."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vk_provider.cloud.base import TAG_NAME, Instance, InstanceState
from vk_provider.cloud.local import cgroup, network, service_tables, services
from vk_provider.cloud.local.catalog import build_offerings
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig, default_cache_dir
from vk_provider.cloud.local.containerd import find_containerd
from vk_provider.cloud.local.golden import ensure_golden
from vk_provider.cloud.local.prepared import remove_work
from vk_provider.cloud.local.settings import DEFAULT_STATE_DIR
from vk_provider.cloud.local.shared import remove_shared
from vk_provider.cloud.local.template import check_machine, golden_directory
from vk_provider.errors import BadStartError, CloudError

_DOWN_TIMEOUT_S = 60.0


def main(argv: Sequence[str]) -> int:
    """Entry point; the caller prints a BadStartError."""
    options = _parse(argv)
    images = tuple(getattr(options, "image", ()) or ())
    config = LocalCloudConfig(
        name=options.name,
        subnet=options.subnet,
        ipv6_subnet=options.ipv6_subnet,
        state_dir=os.path.abspath(options.state_dir),
        cache_dir=os.path.abspath(options.cache_dir),
        preload=tuple(os.path.abspath(image) if os.path.exists(image) else image for image in images),
        registries={host: {"plain_http": True} for host in getattr(options, "plain_http", ())},
    )
    check_machine()
    commands = {"up": _up, "down": _down, "status": _status, "golden": _golden}
    try:
        return asyncio.run(commands[options.command](config, options))
    except (CloudError, OSError) as error:
        print(f"vk-provider: {error}", file=sys.stderr)
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vk-provider local-cloud", description="The embedded cloud of this machine.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--name", default="local", help="which cloud (default: local)")
    shared.add_argument("--subnet", default="10.201.0.0/16", help="addresses of instances (default: 10.201.0.0/16)")
    shared.add_argument("--ipv6-subnet", default="", help="IPv6 addresses of instances, such as fd00:201::/64")
    shared.add_argument("--state-dir", default=DEFAULT_STATE_DIR, help=f"default: {DEFAULT_STATE_DIR}")
    shared.add_argument("--cache-dir", default=default_cache_dir(), help="where prepared images are kept")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", parents=[shared], help="make the network and the metadata service")
    commands.add_parser("down", parents=[shared], help="terminate all instances, remove network and state")
    commands.add_parser("status", parents=[shared], help="show network and instances; exit code 1 when it is down")
    golden = commands.add_parser("golden", parents=[shared], help="prepare images that every instance has at boot")
    golden.add_argument("--image", action="append", default=[], help="OCI archive or image reference; repeatable")
    golden.add_argument("--plain-http", action="append", default=[], metavar="HOST:PORT", help="registry without TLS")
    golden.add_argument("--refresh", action="store_true", help="prepare again although it is there")
    return parser.parse_args(argv)


async def _up(config: LocalCloudConfig, _: argparse.Namespace) -> int:
    config.instances_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    config.addresses_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    await asyncio.to_thread(network.ensure, config)
    await services.ensure_metadata(config)
    subnets = ", ".join(filter(None, (config.subnet, config.ipv6_subnet)))
    addresses = ", ".join(filter(None, (config.host_ip, config.host_ipv6)))
    print(f"local cloud {config.name} is up: subnet {subnets}, host address {addresses}")
    return 0


async def _down(config: LocalCloudConfig, _: argparse.Namespace) -> int:
    cloud = LocalCloud(config, owner="")
    instances = await cloud.list_all()
    for error in await cloud.terminate([i.instance_id for i in instances if not i.state.is_terminated]):
        if error is not None:
            print(f"local-cloud down: {error}", file=sys.stderr)
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    while [i for i in await cloud.list_all() if i.state != InstanceState.TERMINATED]:
        if time.monotonic() > deadline:
            raise CloudError(f"local cloud: instances of {config.name} do not end; see `local-cloud status`")
        await asyncio.sleep(0.05)
    await cloud.close()
    await services.stop_metadata(config)
    await asyncio.to_thread(services.end_strays, config)
    await asyncio.to_thread(_remove, config)
    print(f"local cloud {config.name} is down")
    return 0


def _remove(config: LocalCloudConfig) -> None:
    service_tables.remove(config.name)
    network.remove(config)
    group = cgroup.InstanceCgroup(tuple(cgroup.find_hierarchies()), config.cgroup)
    group.kill()  # processes without a record
    if not group.remove():
        raise CloudError(f"local cloud: control group {config.cgroup} is still busy")
    remove_shared(config)
    remove_work(config.stores_dir)
    shutil.rmtree(config.root, ignore_errors=True)
    try:
        Path(config.state_dir).rmdir()
    except OSError:
        pass  # other clouds keep their state there, too


async def _status(config: LocalCloudConfig, _: argparse.Namespace) -> int:
    up = network.exists(config)
    metadata = services.metadata_running(config)
    print(f"network {'up' if up else 'down'}, metadata service {'up' if metadata else 'down'}")
    instances = await LocalCloud(config, owner="").list_all()
    if instances:
        print("\n".join(format_instances(instances)))
    return 0 if up and metadata else 1


def format_instances(instances: Sequence[Instance]) -> list[str]:
    """A table with a heading, oldest instance first, and a line with the current price of all of them."""
    prices = {(o.instance_type, o.zone, o.capacity_type): o.price_per_hour for o in build_offerings("")}
    rows, paid = [("INSTANCE", "STATE", "TYPE", "ZONE", "PRICE/H", "ADDRESS", "POD", "REASON")], []
    for each in sorted(instances, key=lambda instance: instance.launch_time):
        address, name, price = each.primary_ip or "-", each.tags.get(TAG_NAME) or "-", "-"
        if not each.state.is_terminating:
            paid.append(prices.get((each.instance_type, each.zone, each.capacity_type), 0.0))
            price = f"${paid[-1]:.4f}"
        head = (each.instance_id, each.state, each.instance_type, each.zone)
        rows.append((*head, price, address, name, each.state_reason))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, f"{len(paid)} instance{'' if len(paid) == 1 else 's'} at ${sum(paid):.4f} per hour"]


async def _golden(config: LocalCloudConfig, options: argparse.Namespace) -> int:
    if not options.image:
        raise BadStartError("local-cloud golden: --image is missing")
    containerd = await asyncio.to_thread(find_containerd)
    directory = golden_directory(config)
    golden = await asyncio.to_thread(
        ensure_golden, containerd, directory, config.preload, "", config.registries, refresh=options.refresh
    )
    print(golden.path)
    return 0
