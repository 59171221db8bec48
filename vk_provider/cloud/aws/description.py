"""DescribeInstances: by owner for listings, by ID and by launch for single questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vk_provider.cloud.aws.addresses import SecondAddresses
from vk_provider.cloud.aws.answers import parse_instance
from vk_provider.cloud.aws.operations import DESCRIBE_INSTANCES, AwsApi
from vk_provider.cloud.base import TAG_IMAGE_SET, TAG_LAUNCH, TAG_OWNER, Instance, InstancePage

PAGE = 200
"""Instances on a page: the SDK reads an answer in one piece, and the loop does nothing else meanwhile."""
IDS_AT_ONCE = 200
"""EC2's limit of values of one filter. By filter an unknown ID is missing from the answer; by name it is an error."""


class Descriptions:
    def __init__(self, api: AwsApi, owner: str, addresses: SecondAddresses) -> None:
        self._api = api
        self._owner = owner
        self._addresses = addresses

    async def list_page(self, page: str) -> InstancePage:
        parameters: dict[str, Any] = {"Filters": [_filter(f"tag:{TAG_OWNER}", [self._owner])], "MaxResults": PAGE}
        if page:
            parameters["NextToken"] = page
        return await self._ask(parameters)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        """In the order of the IDs."""
        wanted = list(dict.fromkeys(instance_ids))
        found: dict[str, Instance] = {}
        for first in range(0, len(wanted), IDS_AT_ONCE):
            for instance in await self._all([_filter("instance-id", wanted[first : first + IDS_AT_ONCE])]):
                found[instance.instance_id] = instance
        return [found[instance_id] for instance_id in wanted if instance_id in found]

    async def find_launch(self, launch_id: str) -> list[Instance]:
        """What one launch call has brought, as far as it is listed."""
        return await self._all([_filter(f"tag:{TAG_LAUNCH}", [launch_id])])

    async def _all(self, filters: list[dict[str, Any]]) -> list[Instance]:
        parameters: dict[str, Any] = {"Filters": filters, "MaxResults": PAGE}
        instances: list[Instance] = []
        while True:
            answer = await self._ask(parameters)
            instances += answer.instances
            if not answer.next_page:
                return instances
            parameters["NextToken"] = answer.next_page

    async def _ask(self, parameters: dict[str, Any]) -> InstancePage:
        answer = await self._api.call(DESCRIBE_INSTANCES, parameters)
        found, builders = [], []
        for raw in (raw for reservation in answer.reservations for raw in reservation.instances):
            if any(tag.key == TAG_IMAGE_SET for tag in raw.tags):
                builders.append(parse_instance(raw))  # it needs no second address
            else:
                found.append(self._addresses.complete(raw))
        return InstancePage(tuple(found), answer.next_token, tuple(builders))


def _filter(name: str, values: list[str]) -> dict[str, Any]:
    return {"Name": name, "Values": values}
