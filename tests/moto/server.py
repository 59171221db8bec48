"""moto's server as a process of a test's own, and what tests tell it."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from tests.moto.plan import Plan
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.settings import AwsCloudSettings

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_DEFAULT_REGION": REGION}
END_LIMIT_S = 30.0
READ_ONLY = ("Describe", "Get", "List", "Receive", "?")
TYPES = ("m7i.large", "m7i.xlarge", "c7i.large", "c7i.xlarge", "r7i.large", "m7i.2xlarge", "c7i.2xlarge")


@dataclass(frozen=True, slots=True)
class Account:
    """What a test's account has: one subnet in each of two zones, and an image for each architecture."""

    vpc_id: str
    subnets: tuple[str, ...]
    zones: tuple[str, ...]
    image_amd64: str
    image_arm64: str
    security_group: str


class MotoServer:
    """Use as a context manager."""

    def __enter__(self) -> MotoServer:
        root = Path(__file__).parent.parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.moto", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, **KEYS, "PYTHONPATH": str(root), "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdecimal():
            raise RuntimeError(f"moto's server did not start: {line!r}")
        self._clients: dict[str, Any] = {}
        self.catalogs = self._process.stdout.readline().rstrip("\n")
        self.url = f"http://127.0.0.1:{line.strip()}"
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()  # it takes its directory with it
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    # --- control -------------------------------------------------------------------------------------------------

    def plan(self, plan: Plan | None = None) -> None:
        """From now on; without one nothing is wrong any more."""
        self._post("plan", msgspec.json.encode(plan or Plan()))

    def reset(self) -> None:
        self._post("reset", b"")

    def calls(self) -> Counter[str]:
        """All calls since the last reset, by API."""
        return Counter(self._post("calls", b"")["calls"])

    def writes(self) -> int:
        return sum(count for api, count in self.calls().items() if not api.startswith(READ_ONLY))

    def throttled(self) -> Counter[str]:
        """Those that a token bucket has refused."""
        return Counter(self._post("calls", b"")["throttled"])

    def arrivals(self) -> list[tuple[float, str]]:
        """(Unix seconds, API) of the last calls since the last reset, in order."""
        return [(at, api) for at, api in self._post("arrivals", b"")]

    def tags(self) -> dict[str, dict[str, str]]:
        """Of all that exists, and of what did, by ID."""
        found: dict[str, dict[str, str]] = self._post("tags", b"")
        return found

    def set_state(self, instance_id: str, state: str, reason: str = "") -> None:
        """What AWS or the machine itself does."""
        body = {"instance_id": instance_id, "state": state, "reason": reason}
        self._post("instance", json.dumps(body).encode())

    def set_console(self, instance_id: str, text: str) -> None:
        """All that it has written."""
        self._post("console", json.dumps({"instance_id": instance_id, "text": text}).encode())

    def set_snapshot(self, snapshot_id: str, state: str) -> None:
        """What AWS makes of one."""
        self._post("snapshot", json.dumps({"snapshot_id": snapshot_id, "state": state}).encode())

    def set_spot_prices(self, *rows: tuple[str, str, float, str]) -> None:
        """All that there have been: (instance type, zone, Unix seconds, USD an hour)."""
        self._post("spot-prices", json.dumps({"rows": rows}).encode())

    def _post(self, name: str, body: bytes) -> Any:
        with urllib.request.urlopen(f"{self.url}/vk-test/{name}", data=body or b"{}", timeout=30) as answer:
            return json.load(answer)

    # --- account -------------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """The SDK's blocking client, for what tests look at: one for each service."""
        if service in self._clients:
            return self._clients[service]
        session = boto3.Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        self._clients[service] = session.client(service, endpoint_url=self.url, config=config)
        return self._clients[service]

    def make_account(self, prefix: int = 20, ipv6: str = "") -> Account:
        """prefix: length of the subnets'; ipv6: a /56 of which each subnet gets a /64, "" for none."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
        zones = (f"{REGION}a", f"{REGION}b")
        subnets = tuple(
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.60.{64 * n}.0/{prefix}", AvailabilityZone=zone)["Subnet"][
                "SubnetId"
            ]
            for n, zone in enumerate(zones)
        )
        if ipv6:
            blocks = ipaddress.IPv6Network(ipv6).subnets(new_prefix=64)
            for subnet, block in zip(subnets, blocks, strict=False):
                ec2.associate_subnet_cidr_block(SubnetId=subnet, Ipv6CidrBlock=str(block))
        images = [
            ec2.register_image(
                Name=f"test-{architecture}",
                Architecture=architecture,
                RootDeviceName="/dev/xvda",
                VirtualizationType="hvm",
            )["ImageId"]
            for architecture in ("x86_64", "arm64")
        ]
        group = ec2.create_security_group(GroupName="pods", Description="pods", VpcId=vpc)["GroupId"]
        return Account(vpc, subnets, zones, images[0], images[1], group)

    def settings(self, account: Account, **more: Any) -> AwsCloudSettings:
        """Of a provider in that account."""
        return AwsCloudSettings(
            **{
                "region": REGION,
                "endpoint_url": self.url,
                "subnets": account.subnets,
                "image_amd64": account.image_amd64,
                "security_groups": (account.security_group,),
                "instance_types": TYPES,
                "listing_lag_s": 0.0,
                # moto needs two seconds for a list of its instance types, and has no prices.
                "catalog": CatalogSettings(self.catalogs, price_api=False, spot_prices=False),
                **more,
            }
        )
