"""The answer of a fleet: instances by offering, and an error for each override that brought none. Pure."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.cloud.aws.answers import Fleet
from vk_provider.cloud.aws.specification import LaunchPlan
from vk_provider.cloud.base import Instance, InstanceState, LaunchFailure, LaunchRequest, Offering, offering_key
from vk_provider.cloud.codes import build_error
from vk_provider.errors import CapacityError, CloudError

FULL = "InsufficientFreeAddressesInSubnet"


def read_instances(fleet: Fleet, plan: LaunchPlan, now: float, zone_of: Callable[[str], str]) -> list[Instance]:
    """As far as a fleet's answer tells: without addresses."""
    made: list[Instance] = []
    for group in fleet.instances:
        said = group.launch_template_and_overrides.overrides
        instance_type = group.instance_type or said.instance_type
        offering = plan.offering_of(instance_type, said.subnet_id) or plan.overrides[0].offering
        for instance_id in group.instance_ids:
            made.append(
                Instance(
                    instance_id=instance_id,
                    state=InstanceState.PENDING,
                    instance_type=instance_type or offering.instance_type,
                    zone=zone_of(said.subnet_id) or offering.zone,
                    capacity_type=offering.capacity_type,
                    architecture=offering.architecture,
                    primary_ip="",
                    pod_ip="",
                    launch_time=now,
                    tags=dict(plan.tags),
                )
            )
    return made


def find_failures(fleet: Fleet, plan: LaunchPlan) -> list[LaunchFailure]:
    """One for each offering that had an error, in the order of the offerings. A subnet that is full is an error of its
    zone only when all subnets of the zone are."""
    by_offering: dict[tuple[str, str, str], tuple[Offering, list[tuple[str, str, str]]]] = {}
    for error in fleet.errors:
        offering = plan.find_offering(error) or plan.overrides[0].offering
        subnet_id = error.launch_template_and_overrides.overrides.subnet_id
        said = (error.error_code, error.error_message, subnet_id)
        by_offering.setdefault(offering_key(offering), (offering, []))[1].append(said)
    failures = []
    for override in plan.overrides:
        found = by_offering.pop(offering_key(override.offering), None)
        if found is None:
            continue
        offering, errors = found
        others = [each for each in errors if each[0] != FULL]
        asked = {each.subnet_id for each in plan.overrides if each.offering == offering}
        if not others and {each[2] for each in errors} < asked:
            continue  # another subnet of the zone has room
        code, message, _ = (others or errors)[0]
        failures.append(LaunchFailure(offering, build_error(code, message, offering)))
    return failures


def name_unexplained(brought: int, request: LaunchRequest) -> CloudError:
    """Why there are fewer instances than were asked for, where EC2 does not say it."""
    first = request.offerings[0]
    text = f"UnfulfillableCapacity: EC2 launched {brought} of {request.count} instances, without a reason"
    return CapacityError(text, first.instance_type, first.zone, first.capacity_type)
