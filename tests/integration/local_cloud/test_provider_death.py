"""The provider dies without a word; its instances and the cloud's memory do not."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from dataclasses import asdict

import pytest

from tests.integration.local_cloud.conftest import OWNER, request, take_down
from tests.integration.local_cloud.machine import cgroup_directories, first_processes, mounts, run, until
from tests.launching import launch_each
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.local import network, services
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig

pytestmark = pytest.mark.real

PROVIDER = """
import asyncio, json, sys
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.base import LaunchRequest, TAG_OWNER

async def main(options, owner, tokens):
    options["preload"] = tuple(options["preload"]); options["nameservers"] = ()
    cloud = LocalCloud(LocalCloudConfig(**options), owner)
    await cloud.start()
    offerings = await cloud.describe_offerings()
    offering = next(o for o in offerings if o.cpu_milli == 1000 and o.capacity_type == "on-demand")
    print("ready", flush=True)
    # As `request` of conftest builds them: the next process repeats them.
    requests = [LaunchRequest(t, (offering,), {TAG_OWNER: owner, "Name": t}, json.dumps({"for": t})) for t in tokens]
    await asyncio.gather(*(cloud.launch(r) for r in requests))
    print("launched", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]))
"""


async def run_provider(config: LocalCloudConfig, tokens: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROVIDER, json.dumps(asdict(config)), OWNER, *tokens, stdout=asyncio.subprocess.PIPE
    )


async def read_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.communicate()


async def _nothing_shuts_down(cloud: LocalCloud) -> bool:
    return InstanceState.SHUTTING_DOWN not in {i.state for i in await list_owned(cloud)}


async def test_instances_outlive_the_provider_and_are_found_again(config: LocalCloudConfig) -> None:
    process = await run_provider(config, ["one", "two"])
    assert [await read_line(process), await read_line(process)] == ["ready", "launched"]
    await kill(process)
    cloud = LocalCloud(config, OWNER)
    try:
        await cloud.start()
        found = await list_owned(cloud)
        assert sorted(i.tags["Name"] for i in found) == ["one", "two"]
        assert {i.state for i in found} == {InstanceState.RUNNING}
        (again,) = await launch_each(cloud, [await request(cloud, "one")])
        assert isinstance(again, Instance) and again.instance_id in {i.instance_id for i in found}
        assert len(await list_owned(cloud)) == 2
        await cloud.terminate([i.instance_id for i in found])
    finally:
        await cloud.close()
        await take_down(config)


@pytest.mark.parametrize("delay_s", [0.03, 0.15])
async def test_a_kill_in_the_middle_of_20_launches_ends_with_one_instance_each(
    config: LocalCloudConfig, delay_s: float
) -> None:
    tokens = [f"pod-{number}" for number in range(20)]
    process = await run_provider(config, tokens)
    assert await read_line(process) == "ready"
    await asyncio.sleep(delay_s)
    await kill(process)
    cloud = LocalCloud(config, OWNER)
    try:
        await cloud.start()
        results = await launch_each(cloud, [await request(cloud, token) for token in tokens])
        wanted = []
        for token, result in zip(tokens, results, strict=True):
            assert isinstance(result, Instance), result
            # An instance whose first process was being started has died with the provider. Its token says so, and the
            # next attempt has another one, as in instances.launches.
            wanted.append(f"{token} again" if result.state.is_terminating else token)
        again = [await request(cloud, token) for token in wanted if token not in tokens]
        assert all(isinstance(result, Instance) for result in (await launch_each(cloud, again) if again else []))
        await until(lambda: _nothing_shuts_down(cloud))
        found = [i for i in await list_owned(cloud) if not i.state.is_terminated]
        assert sorted(i.tags["Name"] for i in found) == sorted(wanted)
        assert len({i.primary_ip for i in found} | {i.pod_ip for i in found}) == 40
        assert {i.state for i in found} == {InstanceState.RUNNING}
        groups = next(base for base in cgroup_directories(config) if "pids" in str(base) or len(str(base)) < 30)
        assert sorted(path.name for path in groups.glob("i-*")) == sorted(i.instance_id for i in found)
        assert [len(first_processes(cloud, i.instance_id)) for i in found] == [1] * 20
        await cloud.terminate([i.instance_id for i in found])
    finally:
        await cloud.close()
        await take_down(config)


async def test_down_leaves_nothing(config: LocalCloudConfig) -> None:
    process = await run_provider(config, ["left"])
    assert [await read_line(process), await read_line(process)] == ["ready", "launched"]
    assert network.exists(config) and services.metadata_running(config)
    await kill(process)
    await take_down(config)
    assert not network.exists(config)
    assert config.namespace not in run("ip", "netns", "list")
    assert config.host_device not in run("ip", "-br", "link")
    assert cgroup_directories(config) == []
    assert config.name not in mounts()
    await until(lambda: config.state_dir not in run("ps", "-eww", "-o", "args="))


async def test_a_metadata_service_that_no_pid_file_names_is_in_nobodys_way_and_goes_with_down(
    config: LocalCloudConfig,
) -> None:
    def running() -> list[str]:
        return [line for line in run("ps", "-eww", "-o", "args=").splitlines() if config.state_dir in line]

    await asyncio.to_thread(network.ensure, config)
    try:
        config.root.mkdir(parents=True, exist_ok=True)
        await services.ensure_metadata(config)
        shutil.rmtree(config.root)
        config.root.mkdir(parents=True)
        assert len(running()) == 1
        await services.ensure_metadata(config)
        assert services.metadata_running(config) and len(running()) == 1
        shutil.rmtree(config.root)
    finally:
        await take_down(config)
    await until(lambda: running() == [])


async def test_the_metadata_service_is_started_again_before_a_launch(config: LocalCloudConfig) -> None:
    cloud = LocalCloud(config, OWNER)
    try:
        await cloud.start()
        await services.stop_metadata(config)
        assert not services.metadata_running(config)
        (result,) = await launch_each(cloud, [await request(cloud, "x")])
        assert isinstance(result, Instance)
        assert services.metadata_running(config)
    finally:
        await cloud.close()
        await take_down(config)
