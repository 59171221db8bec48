"""A launched instance boots, lives and ends with what the server says of it, and the other way round."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.until import until
from tests.ec2.world import World, greet
from vk_provider.cloud.local import network
from vk_provider.cloud.local.cgroup import find_hierarchies

pytestmark = pytest.mark.real

IMDS = "http://169.254.169.254"
TOKEN = f"$(curl -s -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {IMDS}/latest/api/token)"
OPEN = "nft delete table ip vk_metadata_guard"
"""The agent closes the endpoint once it has read it."""


def get(path: str, flags: str = "-s") -> str:
    return f'curl {flags} -m 5 -H "X-aws-ec2-metadata-token: {TOKEN}" {IMDS}/latest/{path}'


async def test_the_agent_waits_for_the_second_address_and_answers_as_this_instance(world: World) -> None:
    with world.own(world.run_instance(second_address=False)) as instance_id:
        until("the agent waits", lambda: "no secondary address" in world.log(instance_id), 60, 0.1)
        assert "answers on" not in world.log(instance_id)
        world.assign_address(instance_id)
        instance = world.described(instance_id)
        began = time.monotonic()
        hello = await greet(world, instance)
        assert (hello["type"], hello["instanceID"], hello["podUID"]) == ("hello", instance_id, "")
        assert time.monotonic() - began < 5
        assert f"instance {instance_id} answers on {instance.primary_ip}" in world.log(instance_id)


@pytest.mark.parametrize("way", ["SecondaryPrivateIpAddressCount", "Ipv4PrefixCount"])
async def test_an_address_that_comes_with_the_launch_is_the_pods(world: World, way: str) -> None:
    interface = {"DeviceIndex": 0, "SubnetId": world.network.subnets["us-east-1a"], way: 1}
    with world.own(world.run_instance(second_address=False, NetworkInterfaces=[interface])) as instance_id:
        instance = world.described(instance_id)
        await greet(world, instance)
        (described,) = world.look(instance_id)["NetworkInterfaces"]
        prefixes = [each["Ipv4Prefix"] for each in described.get("Ipv4Prefixes") or []]
        expected = prefixes[0].partition("/")[0] if way == "Ipv4PrefixCount" else instance.pod_ip
        kept = json.loads(world.inside(instance_id, "cat /run/vk-agent/metadata.json"))
        assert kept["facts"]["pod_ip"] == expected != ""
        ranges = json.loads(world.inside(instance_id, "cat /etc/cni/net.d/10-pod-network.conflist"))["plugins"][0]
        assert ranges["ipam"]["ranges"][0][0]["rangeStart"] == expected


async def test_the_metadata_service_answers_as_ec2_does(world: World) -> None:
    with world.own(world.run_instance()) as instance_id:
        instance = world.described(instance_id)
        await greet(world, instance)

        def ask(script: str) -> str:
            return world.inside(instance_id, script, check=False)

        assert ask(f"curl -s -m 2 {IMDS}/latest/meta-data/instance-id; echo $?").strip() != "0"  # closed by the agent
        ask(OPEN)
        code = "-s -o /dev/null -w %{http_code}"
        assert ask(f"curl {code} -m 5 {IMDS}/latest/meta-data/instance-id") == "401"
        assert ask(f"curl {code} -m 5 -X PUT {IMDS}/latest/api/token") == "400"
        assert ask(get("meta-data/instance-id")) == instance_id
        assert ask(get("meta-data/tags/instance", code)) == "404"
        assert ask(get("meta-data/spot/instance-action", code)) == "404"
        document = json.loads(ask(get("dynamic/instance-identity/document")))
        assert (document["instanceId"], document["privateIp"]) == (instance_id, instance.primary_ip)
        mac = ask(get("meta-data/mac"))
        assert ask("cat /sys/class/net/eth0/address").strip() == mac
        interface = f"meta-data/network/interfaces/macs/{mac}"
        assert ask(get(f"{interface}/local-ipv4s")).split() == [instance.primary_ip, instance.pod_ip]
        assert ask(get(f"{interface}/subnet-ipv4-cidr-block")) == "10.219.0.0/18"
        world.ec2.modify_instance_metadata_options(InstanceId=instance_id, InstanceMetadataTags="enabled")
        until("tags are shown", lambda: "vk-provider" in ask(get("meta-data/tags/instance")), 10, 0.1)


def test_an_instance_has_the_limits_of_its_type(world: World) -> None:
    with world.own(world.run_instance(InstanceType="t3.micro")) as instance_id:
        world.wait_booted(instance_id)
        limits = [
            int(path.read_text())
            for hierarchy in find_hierarchies()
            for name in ("memory.limit_in_bytes", "memory.max")
            if (path := Path(hierarchy.path, world.config.cgroup, instance_id, name)).exists()
        ]
        assert limits == [2**30]


async def test_one_that_the_server_terminates_is_gone(world: World) -> None:
    with world.own(world.run_instance(zone="us-east-1b")) as instance_id:
        await greet(world, world.described(instance_id))
        world.ec2.terminate_instances(InstanceIds=[instance_id])
        until("the sandbox is gone", lambda: not world.store.directory(instance_id).exists(), 10, 0.05)


@pytest.mark.parametrize(("behaviour", "state"), [("terminate", "terminated"), ("stop", "stopped")])
async def test_one_that_powers_off_is_told_to_the_server(world: World, behaviour: str, state: str) -> None:
    with world.own(world.run_instance(InstanceInitiatedShutdownBehavior=behaviour)) as instance_id:
        world.wait_booted(instance_id)
        os.kill(world.pid(instance_id), signal.SIGKILL)
        until(f"the server says {state}", lambda: world.state(instance_id) == state, 10, 0.05)


async def test_a_stopped_instance_keeps_its_disk_and_boots_again(world: World) -> None:
    with world.own(world.run_instance()) as instance_id:
        instance = world.described(instance_id)
        await greet(world, instance)
        world.inside(instance_id, "echo kept > /var/lib/vk-agent/mark; echo lost > /run/mark")
        world.ec2.stop_instances(InstanceIds=[instance_id])
        until("the sandbox is stopped", lambda: not world.pid(instance_id), 10, 0.05)
        assert world.state(instance_id) == "stopped"
        world.ec2.start_instances(InstanceIds=[instance_id])
        until("it boots again", lambda: world.pid(instance_id), 20, 0.05)
        hello = await greet(world, world.described(instance_id), fresh=False)
        assert hello["instanceID"] == instance_id
        assert world.inside(instance_id, "cat /var/lib/vk-agent/mark; cat /run/mark || true").split() == ["kept"]


async def test_the_next_booter_goes_on_with_what_a_killed_one_has_left(world: World) -> None:
    with world.own(world.run_instance()) as kept, world.own(world.run_instance()) as ended:
        for instance_id in (kept, ended):
            await greet(world, world.described(instance_id))
        before = world.pid(kept)
        world.kill_booter()
        assert world.pid(ended)
        world.ec2.terminate_instances(InstanceIds=[ended])
        world.start_booter()
        until("the ended one is gone", lambda: not world.store.directory(ended).exists(), 20, 0.05)
        assert world.pid(kept) == before
        await greet(world, world.described(kept), fresh=False)
        world.inside(kept, OPEN)
        assert world.inside(kept, get("meta-data/instance-id")) == kept


async def test_a_spot_instance_is_taken_back_after_its_notice(world: World) -> None:
    spot = {"MarketType": "spot", "SpotOptions": {"InstanceInterruptionBehavior": "terminate"}}
    with world.own(world.run_instance(InstanceMarketOptions=spot)) as instance_id:
        await greet(world, world.described(instance_id))
        world.inside(instance_id, OPEN)
        world.booter_says("interrupt", instance_id, "--after-s", "3")
        notice = json.loads(world.inside(instance_id, get("meta-data/spot/instance-action")))
        assert notice["action"] == "terminate"
        until("it is taken back", lambda: world.state(instance_id) == "terminated", 15, 0.1)
        until("its sandbox is gone", lambda: not world.pid(instance_id), 10, 0.1)


def test_nothing_is_left_after_a_stop(world: World) -> None:
    with world.own(world.run_instance()) as instance_id:
        world.wait_booted(instance_id)
        world.stop_booter()
        assert not world.pid(instance_id)
        assert not network.exists(world.config)
        assert not Path(world.config.state_dir).exists()
        groups = [Path(each.path, world.config.cgroup) for each in find_hierarchies()]
        assert not [path for path in groups if path.exists()]
        world.start_booter()  # and another one begins anew
        until("the instance, which the server still has, boots", lambda: world.pid(instance_id), 60, 0.1)
