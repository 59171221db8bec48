"""The demo on EC2's backend: a moto server plays the cloud, the booter its hypervisor.

The provider is configured as for AWS, but for the endpoint. Two subnets of the demo's network, one in each of two
zones; what moto has is gone with its process, and so are the instances.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from tests.booter.api import CREDENTIALS
from tests.cluster.errors import ClusterError
from tests.cluster.process import Process
from tests.demo.environment import PROJECT, Environment
from vk_provider.cloud.local.config import LocalCloudConfig

REGION = "eu-central-1"
INSTANCE_TYPES = ("t3.micro", "t3.small", "t3.medium", "t3.large", "m7i.large")
"""Of the size of a demo's pods; the machine that runs it is smaller than many types."""
START_LIMIT_S = 120.0
BOOTER_STOP_S = 60.0
"""Until a booter has ended what runs, and what it has asked the server last (tests.booter.api.ANSWER_LIMIT_S)."""
COMMAND_LIMIT_S = 120.0
"""Longer than any part of it waits for something."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the server was given: the provider is configured with it."""

    pid: int
    subnets: tuple[str, ...]
    security_group: str
    image: str


class AwsSide:
    """The parts of one demo that stand for AWS."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        root = environment.root
        self.server = Process("moto", root, root)
        self.booter = Process("booter", root, root)
        self._account_file = root / "aws.json"
        self.endpoint = f"http://127.0.0.1:{environment.moto_port}"

    # --- up ------------------------------------------------------------------------------------------------------

    def network_up(self) -> None:
        self._booter_command("up")

    def up(self) -> None:
        """The server with its account, and the booter. Idempotent."""
        environment = self.sdk_environment()
        self.server.start(
            [sys.executable, "-m", "tests.moto", "--port", str(self._environment.moto_port)],
            {**environment, "PYTHONPATH": str(PROJECT)},
        )
        self._wait("the moto server", self.server, self._server_listens)
        if self.account() is None:
            self._make_account()
        words = [*self._words(), "--plain-http", self._environment.registry]
        for image in self._environment.preload:
            words += ["--image", image]
        if self._environment.resolver:
            words += ["--nameserver", self._environment.address]
        self.booter.start(
            [sys.executable, "-m", "tests.booter", "run", *words], self._environment.provider_environment()
        )
        self._wait("the booter", self.booter, self._booter_listens)

    def _make_account(self) -> None:
        config = LocalCloudConfig(name=self._environment.name, subnet=self._environment.subnet)
        ec2 = boto3.session.Session(region_name=REGION, **CREDENTIALS).client("ec2", endpoint_url=self.endpoint)
        try:
            vpc = ec2.create_vpc(CidrBlock=self._environment.subnet)["Vpc"]["VpcId"]
            zones = (f"{REGION}a", f"{REGION}b")
            subnets = tuple(
                ec2.create_subnet(VpcId=vpc, CidrBlock=str(block), AvailabilityZone=zone)["Subnet"]["SubnetId"]
                for zone, block in zip(zones, config.network.subnets(1), strict=True)
            )
            group = ec2.create_security_group(GroupName="pods", Description="instances of pods", VpcId=vpc)["GroupId"]
            image = _find_image(ec2)
        finally:
            ec2.close()
        pid = self.server.pid()
        assert pid is not None
        self._account_file.write_text(json.dumps(asdict(Account(pid, subnets, group, image))))

    def account(self) -> Account | None:
        """Of the server that runs, None when it has none yet."""
        try:
            known: dict[str, Any] = json.loads(self._account_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        account = Account(**{**known, "subnets": tuple(known["subnets"])})
        return account if account.pid == self.server.pid() else None

    def _server_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._environment.moto_port)) == 0

    def _booter_listens(self) -> bool:
        config = LocalCloudConfig(name=self._environment.name, subnet=self._environment.subnet)
        command = ["nsenter", f"--net={config.namespace_path}", "ss", "-Hltn", "sport = :80"]
        return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())

    def _wait(self, what: str, process: Process, look: Any) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not look():
            process.require_alive()
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} does not answer:\n{process.last_lines()}", f"read {process.log}")
            time.sleep(0.1)

    # --- down ----------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Instances, network and server; works after a crash and a second time."""
        self.booter.stop(BOOTER_STOP_S)
        self._booter_command("down")
        self.server.stop()

    # --- what others need ----------------------------------------------------------------------------------------

    def status_arguments(self) -> list[str]:
        """What shows the instances, after `python`."""
        return ["-m", "tests.booter", "status", *self._words()]

    def sdk_environment(self) -> dict[str, str]:
        """Credentials of the SDK's chain, as a server without an instance profile has them."""
        return {
            "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def provider_config(self) -> str:
        """The table [cloud.aws]."""
        account = self.account()
        if account is None:
            raise ClusterError("the moto server has no account yet", "make demo CLOUD=aws")
        return f"""[cloud.aws]
region = "{REGION}"
endpoint_url = "{self.endpoint}"
subnets = {json.dumps(account.subnets)}
security_groups = ["{account.security_group}"]
image_amd64 = "{account.image}"
instance_types = {json.dumps(INSTANCE_TYPES)}
listing_lag_s = 0.0

[cloud.aws.catalog]
directory = "{self._environment.root / "catalog"}"
price_api = false
spot_prices = false
"""

    def _words(self) -> list[str]:
        environment = self._environment
        words = ["--endpoint", self.endpoint, "--region", REGION, "--name", environment.name]
        return [*words, "--subnet", environment.subnet, "--state-dir", str(environment.cloud_state)]

    def _booter_command(self, verb: str) -> None:
        advice = "mend what it says, or `make demo-down` and start again"
        try:
            result = subprocess.run(
                [sys.executable, "-m", "tests.booter", verb, *self._words()],
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"").decode(errors="replace")[-1000:]
            raise ClusterError(f"booter {verb} has not ended within {COMMAND_LIMIT_S:g} s: {said}", advice) from None
        if result.returncode != 0:
            raise ClusterError(
                f"booter {verb}: {result.stderr.strip() or result.stdout.strip()}",
                advice,
            )


def _find_image(ec2: Any) -> str:
    """One of those that moto has; what is in it, the booter has on this machine."""
    wanted = [{"Name": "architecture", "Values": ["x86_64"]}, {"Name": "virtualization-type", "Values": ["hvm"]}]
    found = ec2.describe_images(Filters=wanted)["Images"]
    linux = [each for each in found if each.get("Platform") != "windows" and each.get("RootDeviceName")]
    return str(min(linux, key=lambda each: each["ImageId"])["ImageId"])
