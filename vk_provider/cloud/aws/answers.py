"""What AWS answers, as far as it is used: nothing else of an answer is looked at. What is not of its shape is an error
of the call. Field names are those of the API in snake case."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from vk_provider.cloud.base import Instance, InstanceState

Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
_TRANSITION = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


class Answer(Struct, rename="pascal", frozen=True, gc=False):
    """Names as in the API: instance_id is InstanceId."""


class Nothing(Answer, frozen=True):
    """An answer that says no more than that it was done."""


class Tag(Answer, frozen=True):
    key: Name = ""
    value: Name = ""


class State(Answer, frozen=True):
    name: InstanceState


class StateReason(Answer, frozen=True):
    code: Text = ""
    message: Text = ""


class Placement(Answer, frozen=True):
    availability_zone: Name = ""


class PrivateAddress(Answer, frozen=True):
    private_ip_address: Name = ""
    primary: bool = False


class Prefix(Answer, frozen=True):
    ipv4_prefix: Name = ""


class Ipv6Address(Answer, frozen=True):
    ipv6_address: Name = ""
    is_primary_ipv6: bool = False


class Attachment(Answer, frozen=True):
    device_index: int = 0


class NetworkInterface(Answer, frozen=True):
    network_interface_id: Name = ""
    private_ip_addresses: list[PrivateAddress] = []
    ipv4_prefixes: list[Prefix] = []
    ipv6_addresses: list[Ipv6Address] = []
    attachment: Attachment = Attachment()


class DescribedInstance(Answer, frozen=True):
    instance_id: Name
    state: State
    instance_type: Name = ""
    placement: Placement = Placement()
    instance_lifecycle: Name = ""
    architecture: Name = ""
    private_ip_address: Name = ""
    ipv6_address: Name = ""
    network_interfaces: list[NetworkInterface] = []
    launch_time: datetime | None = None
    tags: list[Tag] = []
    state_reason: StateReason = StateReason()
    state_transition_reason: Text = ""

    @property
    def primary_interface(self) -> NetworkInterface | None:
        return next((each for each in self.network_interfaces if each.attachment.device_index == 0), None)


class Reservation(Answer, frozen=True):
    instances: list[DescribedInstance] = []


class Reservations(Answer, frozen=True):
    reservations: list[Reservation] = []
    next_token: Text = ""


class Override(Answer, frozen=True):
    instance_type: Name = ""
    subnet_id: Name = ""


class TemplateAndOverrides(Answer, frozen=True):
    overrides: Override = Override()


class FleetError(Answer, frozen=True):
    error_code: Name = ""
    error_message: Text = ""
    launch_template_and_overrides: TemplateAndOverrides = TemplateAndOverrides()


class FleetInstances(Answer, frozen=True):
    instance_ids: list[Name] = []
    instance_type: Name = ""
    launch_template_and_overrides: TemplateAndOverrides = TemplateAndOverrides()


class Fleet(Answer, frozen=True):
    instances: list[FleetInstances] = []
    errors: list[FleetError] = []


class AssignedAddresses(Answer, frozen=True):
    assigned_private_ip_addresses: list[PrivateAddress] = []


class AssignedIpv6Addresses(Answer, frozen=True):
    assigned_ipv6_addresses: list[Name] = []


class LaunchTemplate(Answer, frozen=True):
    launch_template_id: Name
    launch_template_name: Name = ""
    create_time: datetime | None = None


class LaunchTemplates(Answer, frozen=True):
    launch_templates: list[LaunchTemplate] = []
    next_token: Text = ""


class BlockState(Answer, frozen=True):
    state: Name = ""


class Ipv6Block(Answer, frozen=True):
    ipv6_cidr_block: Name = ""
    ipv6_cidr_block_state: BlockState = BlockState()


class Subnet(Answer, frozen=True):
    subnet_id: Name
    vpc_id: Name = ""
    availability_zone: Name = ""
    cidr_block: Name = ""
    ipv6_native: bool = False
    ipv6_cidr_block_association_set: list[Ipv6Block] = []

    @property
    def has_ipv6(self) -> bool:
        """Whether it has a block of IPv6 addresses now."""
        return any(each.ipv6_cidr_block_state.state == "associated" for each in self.ipv6_cidr_block_association_set)


class Subnets(Answer, frozen=True):
    subnets: list[Subnet] = []


class Ebs(Answer, frozen=True):
    volume_size: int = 0


class BlockDevice(Answer, frozen=True):
    device_name: Name = ""
    ebs: Ebs = Ebs()


class Image(Answer, frozen=True):
    image_id: Name
    architecture: Name = ""
    root_device_name: Name = ""
    block_device_mappings: list[BlockDevice] = []


class Images(Answer, frozen=True):
    images: list[Image] = []


class ParameterValue(Answer, frozen=True):
    value: Text = ""


class ParameterAnswer(Answer, frozen=True):
    parameter: ParameterValue = ParameterValue()


class AttachedVolume(Answer, frozen=True):
    volume_id: Name = ""


class AttachedDevice(Answer, frozen=True):
    device_name: Name = ""
    ebs: AttachedVolume = AttachedVolume()


class Builder(Answer, frozen=True):
    """An instance that makes a prepared store."""

    instance_id: Name
    state: State
    launch_time: datetime | None = None
    tags: list[Tag] = []
    block_device_mappings: list[AttachedDevice] = []
    state_reason: StateReason = StateReason()


class BuilderReservation(Answer, frozen=True):
    instances: list[Builder] = []


class Builders(Answer, frozen=True):
    reservations: list[BuilderReservation] = []
    next_token: Text = ""


class ConsoleOutput(Answer, frozen=True):
    """EC2 keeps the last 64 KiB."""

    output: Annotated[str, Meta(max_length=1 << 18)] = ""


class Snapshot(Answer, frozen=True):
    snapshot_id: Name
    state: Name = ""
    state_message: Text = ""
    start_time: datetime | None = None
    volume_size: int = 0
    full_snapshot_size_in_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    tags: list[Tag] = []


class Snapshots(Answer, frozen=True):
    snapshots: list[Snapshot] = []
    next_token: Text = ""


class Message(Answer, frozen=True):
    receipt_handle: Text
    body: str = ""


class Messages(Answer, frozen=True):
    messages: list[Message] = []


def to_architecture(name: str) -> str:
    """Kubernetes' name for one of EC2's; "" for those that no pod runs on."""
    return _ARCHITECTURES.get(name, "")


def parse_instance(raw: DescribedInstance) -> Instance:
    """The instance as the rooms know it, but for IPv6 (see ipv6). The second address is the first secondary one, or the
    first one of a prefix. AWS's own tags are left out: they are no tags of ours, and nobody can set them."""
    ended = raw.state.name.is_terminated
    reason = raw.state_reason.message or raw.state_reason.code or raw.state_transition_reason
    return Instance(
        instance_id=raw.instance_id,
        state=raw.state.name,
        instance_type=raw.instance_type,
        zone=raw.placement.availability_zone,
        capacity_type="spot" if raw.instance_lifecycle == "spot" else "on-demand",
        architecture=to_architecture(raw.architecture),
        primary_ip="" if ended else raw.private_ip_address,
        pod_ip="" if ended else find_second_address(raw),
        launch_time=raw.launch_time.timestamp() if raw.launch_time else 0.0,
        tags={tag.key: tag.value for tag in raw.tags if not tag.key.startswith("aws:")},
        state_reason=reason,
        ended_at=find_end(raw),
    )


def find_end(raw: DescribedInstance) -> float:
    """Unix time at which it began to stop, as StateTransitionReason says it ("User initiated (2026-11-29 10:00:00
    GMT)"): it is not paid for from then on. 0.0 while it runs, and where AWS itself has ended it and says no time."""
    if raw.state.name in (InstanceState.PENDING, InstanceState.RUNNING):
        return 0.0
    found = _TRANSITION.search(raw.state_transition_reason)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp() if found is not None else 0.0
    except ValueError:
        return 0.0


def find_second_address(raw: DescribedInstance) -> str:
    interface = raw.primary_interface
    if interface is None:
        return ""
    for address in interface.private_ip_addresses:
        if not address.primary and address.private_ip_address != raw.private_ip_address:
            return address.private_ip_address
    for prefix in interface.ipv4_prefixes:
        return prefix.ipv4_prefix.partition("/")[0]
    return ""
