"""What the booter does about one instance, and how it reads EC2's answers."""

from __future__ import annotations

import datetime

import pytest

from tests.booter.api import Ec2Api
from tests.booter.booter import Sandbox, Step, decide
from tests.booter.machine import MetadataOptions, parse_reservations, secondary_addresses
from tests.demo.aws import BOOTER_STOP_S

ALIVE = Sandbox(stopped=False, started=True, alive=True)
DEAD = Sandbox(stopped=False, started=True, alive=False)
CLAIMED = Sandbox(stopped=False, started=False, alive=False)
STOPPED = Sandbox(stopped=True, started=False, alive=False)
STOPPING = Sandbox(stopped=True, started=True, alive=True)


@pytest.mark.parametrize(
    ("state", "sandbox", "step"),
    [
        ("pending", None, Step.BOOT),
        ("running", None, Step.BOOT),
        ("running", ALIVE, Step.NONE),
        ("running", DEAD, Step.REPORT),
        ("running", CLAIMED, Step.BOOT),
        ("running", STOPPED, Step.BOOT),
        ("stopping", ALIVE, Step.STOP),
        ("stopped", ALIVE, Step.STOP),
        ("stopped", STOPPING, Step.STOP),
        ("stopped", STOPPED, Step.NONE),
        ("stopped", DEAD, Step.STOP),
        ("stopped", None, Step.NONE),
        ("shutting-down", ALIVE, Step.REMOVE),
        ("terminated", STOPPED, Step.REMOVE),
        ("terminated", None, Step.NONE),
        (None, ALIVE, Step.REMOVE),
        (None, CLAIMED, Step.REMOVE),
        (None, None, Step.NONE),
    ],
)
def test_the_next_step_follows_from_both_sides(state: str | None, sandbox: Sandbox | None, step: Step):
    assert decide(state, sandbox) is step


INSTANCE = {
    "InstanceId": "i-1",
    "State": {"Name": "running"},
    "InstanceType": "t3.micro",
    "LaunchTime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "PrivateIpAddress": "10.1.0.8",
    "SubnetId": "subnet-1",
    "VpcId": "vpc-1",
    "Placement": {"AvailabilityZone": "us-east-1a"},
    "NetworkInterfaces": [
        {
            "NetworkInterfaceId": "eni-1",
            "PrivateIpAddresses": [{"PrivateIpAddress": "10.1.0.9"}, {"PrivateIpAddress": "10.1.0.8"}],
            "Ipv4Prefixes": [{"Ipv4Prefix": "10.1.0.16/28"}],
        }
    ],
}


def test_an_instance_is_read_with_its_primary_address_first():
    pages = [{"Reservations": [{"OwnerId": "1", "Instances": [INSTANCE]}]}]
    (machine,) = parse_reservations(pages, {"subnet-1": "10.1.0.0/24", "vpc-1": "10.1.0.0/16"})
    assert (machine.primary_ip, machine.pod_ip, machine.region) == ("10.1.0.8", "10.1.0.9", "us-east-1")
    assert (machine.interface.subnet_cidr, machine.interface.vpc_cidr) == ("10.1.0.0/24", "10.1.0.0/16")
    assert machine.metadata == MetadataOptions()
    assert len(list(secondary_addresses(machine.interface))) == 17


def test_an_instance_that_has_ended_has_no_addresses():
    gone = {**INSTANCE, "State": {"Name": "terminated"}, "NetworkInterfaces": []}
    del gone["PrivateIpAddress"]
    (machine,) = parse_reservations([{"Reservations": [{"Instances": [gone]}]}], {})
    assert (machine.primary_ip, machine.pod_ip) == ("", "")


def test_a_booter_that_is_asked_to_end_waits_for_no_answer_longer_than_it_is_waited_for() -> None:
    api = Ec2Api("http://127.0.0.1:1", "us-east-1")
    try:
        config = api._client.meta.config
        assert config.read_timeout * config.retries["total_max_attempts"] < BOOTER_STOP_S / 2
    finally:
        api.close()
