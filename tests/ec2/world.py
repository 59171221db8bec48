"""A moto server with a VPC, the booter that makes its instances boot, and what a test does with both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from tests.booter.api import CREDENTIALS
from tests.cluster.process import Process
from tests.e2e.until import until
from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.session import AgentSession
from vk_provider.cloud.base import TAG_LAUNCH, Instance, InstanceState
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceStore
from vk_provider.errors import AgentUnreachableError
from vk_provider.wire.bootdata import BootData

PROJECT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
ANSWER_LIMIT_S = 60.0
_numbers = itertools.count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Network:
    """Of the VPC. subnets: ID by zone."""

    vpc: str
    subnets: Mapping[str, str]


class World:
    """One moto server and one booter. `up` first, `down` at the end."""

    def __init__(self, root: Path, name: str, cidr: str) -> None:
        self.config = LocalCloudConfig(name=name, subnet=cidr, state_dir=str(root / "state"))
        self.store = InstanceStore(self.config)
        self.identity = ProviderIdentity.create(datetime.now(UTC))
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._server = Process("moto", root, root)
        self.booter = Process("booter", root, root)
        self.ec2: Any = None
        self.network = Network("", {})

    # --- processes -----------------------------------------------------------------------------------------------

    def up(self) -> None:
        environment = {"PYTHONPATH": str(PROJECT), "AWS_DEFAULT_REGION": REGION}
        self._server.start([sys.executable, "-m", "tests.moto", "--port", str(self.port)], environment)
        until("the moto server listens", lambda: _accepts(self.port), 60, 0.05, self._server.last_lines)
        session = boto3.session.Session(region_name=REGION, **CREDENTIALS)
        self.ec2 = session.client("ec2", endpoint_url=self.endpoint)
        self.network = self._make_network()
        self.start_booter()

    def _make_network(self) -> Network:
        vpc = self.ec2.create_vpc(CidrBlock=self.config.subnet)["Vpc"]["VpcId"]
        first, second = self.config.network.subnets(1)
        subnets = {
            zone: self.ec2.create_subnet(VpcId=vpc, CidrBlock=str(block), AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for zone, block in ((f"{REGION}a", first), (f"{REGION}b", second))
        }
        return Network(vpc, subnets)

    def start_booter(self) -> None:
        words = ["--endpoint", self.endpoint, "--region", REGION, "--name", self.config.name]
        words += ["--subnet", self.config.subnet, "--state-dir", self.config.state_dir]
        self.booter.start([sys.executable, "-m", "tests.booter", "run", *words], {"PYTHONPATH": str(PROJECT)})
        until("the booter has its network", self.booter_is_up, 120, 0.1, self.booter.last_lines)

    def booter_is_up(self) -> bool:
        self.booter.require_alive()
        command = ["nsenter", f"--net={self.config.namespace_path}", "ss", "-Hltn", "sport = :80"]
        return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())

    def kill_booter(self) -> None:
        self.booter.signal(signal.SIGKILL)
        until("the booter is dead", lambda: self.booter.pid() is None, 10, 0.05)

    def stop_booter(self) -> None:
        self.booter.stop(60)

    def down(self) -> None:
        self.stop_booter()
        command = [sys.executable, "-m", "tests.booter", "down", "--name", self.config.name]
        command += ["--subnet", self.config.subnet, "--state-dir", self.config.state_dir]
        subprocess.run(command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=True, timeout=120)
        self._server.stop()
        if self.ec2 is not None:
            self.ec2.close()

    def booter_says(self, *words: str) -> None:
        """A command to the running booter."""
        command = [sys.executable, "-m", "tests.booter", *words]
        command += ["--name", self.config.name, "--state-dir", self.config.state_dir]
        subprocess.run(command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=True, timeout=60)

    # --- instances -----------------------------------------------------------------------------------------------

    def run_instance(self, *, second_address: bool = True, zone: str = f"{REGION}a", **parameters: Any) -> str:
        """RunInstances as the provider means it; the instance's ID."""
        master = self.identity.master_secrets[-1]
        launch = build_launch_id(master, f"token-{next(_numbers)}")
        boot_data = BootData(self.identity.ca_pem, derive_boot_secret(master, launch))
        answer = self.ec2.run_instances(
            **{
                "ImageId": "ami-12c6146b",
                "InstanceType": "t3.micro",
                "MinCount": 1,
                "MaxCount": 1,
                **({} if "NetworkInterfaces" in parameters else {"SubnetId": self.network.subnets[zone]}),
                "UserData": boot_data.to_user_data(),
                "InstanceInitiatedShutdownBehavior": "terminate",
                "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": [{"Key": TAG_LAUNCH, "Value": launch}]},
                ],
                **parameters,
            }
        )
        instance_id = str(answer["Instances"][0]["InstanceId"])
        if second_address:
            self.assign_address(instance_id)
        return instance_id

    def assign_address(self, instance_id: str) -> None:
        (interface,) = self.look(instance_id)["NetworkInterfaces"]
        self.ec2.assign_private_ip_addresses(
            NetworkInterfaceId=interface["NetworkInterfaceId"], SecondaryPrivateIpAddressCount=1
        )

    def look(self, instance_id: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return str(self.look(instance_id)["State"]["Name"])

    def addresses(self, instance_id: str) -> list[str]:
        (interface,) = self.look(instance_id)["NetworkInterfaces"]
        listed = sorted(interface["PrivateIpAddresses"], key=lambda each: not each["Primary"])
        return [each["PrivateIpAddress"] for each in listed]

    def described(self, instance_id: str) -> Instance:
        """The instance as a backend describes it to the provider."""
        found = self.look(instance_id)
        primary, *rest = self.addresses(instance_id)
        return Instance(
            instance_id=instance_id,
            state=InstanceState(found["State"]["Name"]),
            instance_type=found["InstanceType"],
            zone=found["Placement"]["AvailabilityZone"],
            capacity_type="spot" if found.get("InstanceLifecycle") == "spot" else "on-demand",
            architecture="amd64",
            primary_ip=primary,
            pod_ip=rest[0] if rest else "",
            launch_time=found["LaunchTime"].timestamp(),
            tags={tag["Key"]: tag["Value"] for tag in found["Tags"]},
        )

    # --- sandboxes -----------------------------------------------------------------------------------------------

    def pid(self, instance_id: str) -> int:
        """Of the sandbox's first process, 0 while there is none."""
        identity = self.store.identity(instance_id)
        return identity.pid if identity is not None and identity.is_alive() else 0

    def log(self, instance_id: str) -> str:
        try:
            return (self.store.directory(instance_id) / "agent.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def inside(self, instance_id: str, script: str, check: bool = True) -> str:
        """Output of a shell script run in the instance's namespaces."""
        command = ["nsenter", "-t", str(self.pid(instance_id)), "--all", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60).stdout

    def wait_booted(self, instance_id: str) -> None:
        name = "ip-" + self.addresses(instance_id)[0].replace(".", "-")

        def look() -> bool:
            return bool(self.pid(instance_id)) and self.inside(instance_id, "hostname", check=False).strip() == name

        until("the sandbox has its own root", look, 60, 0.1, self.booter.last_lines)

    @contextmanager
    def own(self, instance_id: str) -> Iterator[str]:
        """Terminates the instance at the end, and waits until its sandbox is gone."""
        try:
            yield instance_id
        except BaseException:
            print(self.booter.last_lines(30), self.log(instance_id)[-4000:], sep="\n")
            raise
        finally:
            with contextlib.suppress(Exception):
                self.ec2.terminate_instances(InstanceIds=[instance_id])
            if self.booter.pid():
                until("its sandbox is gone", lambda: not self.pid(instance_id), 30, 0.1, self.booter.last_lines)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def open_session(world: World, instance: Instance, *, fresh: bool = True) -> AsyncIterator[AgentSession]:
    """A session with the instance's agent as the provider opens it: dialed until it answers."""
    connector = HttpsConnector(world.identity, 3600)
    deadline = time.monotonic() + ANSWER_LIMIT_S
    try:
        while True:
            try:
                session = await connector.open_session(instance, fresh=fresh)
                break
            except AgentUnreachableError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
        try:
            yield session
        finally:
            await session.close()
    finally:
        await connector.close()


async def greet(world: World, instance: Instance, *, fresh: bool = True) -> Mapping[str, Any]:
    """The greeting of the instance's agent."""
    async with open_session(world, instance, fresh=fresh) as session:
        greeted: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()

        def receive(message: Any) -> None:
            if not greeted.done():
                greeted.set_result(message)

        running = asyncio.create_task(session.run(receive))
        try:
            async with asyncio.timeout(10):
                return await greeted
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
