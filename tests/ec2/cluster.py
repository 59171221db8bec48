"""The running product on EC2's backend, in the tests' hands."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import boto3

from tests.booter.api import CREDENTIALS
from tests.cluster.controlplane import ControlPlane
from tests.demo.aws import REGION, AwsSide
from tests.demo.environment import PROJECT, Environment
from tests.e2e.nodeless import Nodeless


class Ec2Cluster(Nodeless):
    """`instances` are the booter's sandboxes, which have the tags that EC2 shows."""

    def __init__(self, environment: Environment, plane: ControlPlane) -> None:
        super().__init__(environment, plane)
        self.aws = AwsSide(environment)
        session = boto3.session.Session(region_name=REGION, **CREDENTIALS)
        self.ec2: Any = session.client("ec2", endpoint_url=self.aws.endpoint)

    def look(self, instance_id: str) -> Any:
        """The instance as EC2 describes it."""
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return str(self.look(instance_id)["State"]["Name"])

    def describe_instances(self) -> str:
        return self._python(*self.aws.status_arguments())

    def interrupt(self, instance_id: str, after_s: float) -> None:
        """EC2 announces that it takes the spot instance back, and does so."""
        words = ["--name", self.environment.name, "--state-dir", str(self.environment.cloud_state)]
        self._python("-m", "tests.booter", "interrupt", instance_id, "--after-s", str(after_s), *words)

    def _python(self, *arguments: str) -> str:
        environment = {**self.environment.provider_environment(), "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=PROJECT, env=environment, check=True, timeout=60, capture_output=True, text=True
        ).stdout
