"""An instance for tests of the booter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.booter.imds import Guest
from tests.booter.machine import Interface, Machine, MetadataOptions

MAC = "02:56:0a:01:00:08"
INTERFACE = Interface(
    interface_id="eni-1",
    subnet_id="subnet-1",
    vpc_id="vpc-1",
    addresses=("10.1.0.8", "10.1.0.9"),
    owner_id="123456789012",
    group_ids=("sg-1",),
    group_names=("default",),
    subnet_cidr="10.1.0.0/17",
    vpc_cidr="10.1.0.0/16",
)
MACHINE = Machine(
    instance_id="i-0123456789abcdef0",
    state="running",
    instance_type="t3.micro",
    architecture="x86_64",
    image_id="ami-1",
    zone="eu-west-1b",
    launched=1_700_000_000.0,
    interface=INTERFACE,
    account="123456789012",
    tags={"Name": "default/web"},
)


def guest(user_data: bytes = b"{}", **options: Any) -> Guest:
    """With these MetadataOptions."""
    return Guest(replace(MACHINE, metadata=MetadataOptions(**options)), user_data, MAC)
