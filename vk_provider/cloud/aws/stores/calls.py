"""The calls about prepared stores: builders and snapshots of ours, by their tags. Nothing is repeated here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vk_provider.cloud.aws import answers
from vk_provider.cloud.aws.operations import (
    CREATE_SNAPSHOT,
    DELETE_SNAPSHOT,
    DESCRIBE_BUILDERS,
    DESCRIBE_SNAPSHOTS,
    GET_CONSOLE_OUTPUT,
    RUN_BUILDER,
    TERMINATE_INSTANCES,
    AwsApi,
    Operation,
)
from vk_provider.cloud.aws.specification import build_tags
from vk_provider.cloud.aws.stores.record import StoreRecord, parse_record
from vk_provider.cloud.aws.stores.volume import STORE_DEVICE
from vk_provider.cloud.base import TAG_IMAGE_SET, TAG_OWNER, Instance, InstanceState, Offering
from vk_provider.cloud.codes import code_of
from vk_provider.errors import CloudRequestError

PAGE: Final = 200
_GONE = frozenset({"InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """record: None where its tags cannot be read. started_at: Unix seconds. full_bytes: that it holds, 0 where EC2 does
    not say it."""

    snapshot_id: str
    key: str
    state: str
    message: str
    started_at: float
    volume_gib: int
    record: StoreRecord | None
    full_bytes: int = 0

    @property
    def paid_bytes(self) -> int:
        """As far as is known: EC2's word, else that of who has made it, else all that the volume has."""
        known = self.full_bytes or (self.record.size_bytes if self.record is not None else 0)
        return known or self.volume_gib << 30

    @property
    def is_completed(self) -> bool:
        return self.state == "completed"

    @property
    def is_lost(self) -> bool:
        return self.state not in ("completed", "pending")


@dataclass(frozen=True, slots=True)
class Builder:
    """volume_id: of the store's volume, "" when it has none any more. launched_at: Unix seconds."""

    instance_id: str
    key: str
    state: InstanceState
    launched_at: float
    volume_id: str
    record: StoreRecord | None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def describe(self, offering: Offering) -> Instance:
        """As what it is paid for, where it was launched as `offering`."""
        return Instance(
            self.instance_id,
            self.state,
            offering.instance_type,
            offering.zone,
            offering.capacity_type,
            offering.architecture,
            "",
            "",
            self.launched_at,
            self.tags,
        )

    @property
    def is_alive(self) -> bool:
        return self.state in (InstanceState.PENDING, InstanceState.RUNNING)


class StoreCalls:
    """Raises CloudError."""

    def __init__(self, api: AwsApi, owner: str) -> None:
        self._api, self._owner = api, owner

    async def list_snapshots(self, key: str = "") -> list[Snapshot]:
        """Of one set, or of all; in the order in which they were begun."""
        parameters = {"OwnerIds": ["self"], "Filters": self._filters(key), "MaxResults": PAGE}
        found: list[Snapshot] = []
        for answer in await self._pages(DESCRIBE_SNAPSHOTS, parameters):
            found += map(_read_snapshot, answer.snapshots)
        return sorted(found, key=lambda each: (each.started_at, each.snapshot_id))

    async def list_builders(self, key: str = "") -> list[Builder]:
        """Of one set, or of all; the oldest first. For about an hour those that have ended are among them."""
        parameters = {"Filters": self._filters(key), "MaxResults": PAGE}
        found: list[Builder] = []
        for answer in await self._pages(DESCRIBE_BUILDERS, parameters):
            found += [_read_builder(raw) for reservation in answer.reservations for raw in reservation.instances]
        return sorted(found, key=lambda each: (each.launched_at, each.instance_id))

    def _filters(self, key: str) -> list[dict[str, Any]]:
        of_owner = {"Name": f"tag:{TAG_OWNER}", "Values": [self._owner]}
        if key:
            return [of_owner, {"Name": f"tag:{TAG_IMAGE_SET}", "Values": [key]}]
        return [of_owner, {"Name": "tag-key", "Values": [TAG_IMAGE_SET]}]

    async def _pages(self, operation: Operation[Any], parameters: dict[str, Any]) -> list[Any]:
        pages = []
        while True:
            answer = await self._api.call(operation, parameters)
            pages.append(answer)
            if not answer.next_token:
                return pages
            parameters = {**parameters, "NextToken": answer.next_token}

    async def run_builder(self, parameters: Mapping[str, Any], offering: Offering) -> Builder | None:
        answer = await self._api.call(RUN_BUILDER, parameters, offering)
        return next(map(_read_builder, answer.instances), None)

    async def read_console(self, instance_id: str) -> str:
        """What it says now; "" where there is nothing yet, or the instance is not known any more."""
        try:
            answer = await self._api.call(GET_CONSOLE_OUTPUT, {"InstanceId": instance_id, "Latest": True})
        except CloudRequestError as error:
            if code_of(error) in _GONE:
                return ""
            raise
        return answer.output

    async def create_snapshot(self, volume_id: str, tags: Mapping[str, str]) -> Snapshot:
        specification = [{"ResourceType": "snapshot", "Tags": build_tags(tags)}]
        parameters = {"VolumeId": volume_id, "Description": "images", "TagSpecifications": specification}
        return _read_snapshot(await self._api.call(CREATE_SNAPSHOT, parameters))

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """One that is not there is deleted. Volumes that were made of it are what they are."""
        try:
            await self._api.call(DELETE_SNAPSHOT, {"SnapshotId": snapshot_id})
        except CloudRequestError as error:
            if code_of(error) not in _GONE:
                raise

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Their volumes go with them."""
        for instance_id in instance_ids:  # a call for several fails as a whole where one is not known
            try:
                await self._api.call(TERMINATE_INSTANCES, {"InstanceIds": [instance_id]})
            except CloudRequestError as error:
                if code_of(error) not in _GONE:
                    raise


def _read_snapshot(raw: answers.Snapshot) -> Snapshot:
    tags = {tag.key: tag.value for tag in raw.tags}
    started_at = raw.start_time.timestamp() if raw.start_time is not None else time.time()
    return Snapshot(
        raw.snapshot_id,
        tags.get(TAG_IMAGE_SET, ""),
        raw.state or "pending",
        raw.state_message,
        started_at,
        raw.volume_size,
        parse_record(tags),
        raw.full_snapshot_size_in_bytes,
    )


def _read_builder(raw: answers.Builder) -> Builder:
    tags = {tag.key: tag.value for tag in raw.tags}
    volumes = [each.ebs.volume_id for each in raw.block_device_mappings if each.device_name == STORE_DEVICE]
    launched_at = raw.launch_time.timestamp() if raw.launch_time is not None else time.time()
    reason = raw.state_reason.message or raw.state_reason.code
    key = tags.get(TAG_IMAGE_SET, "")
    volume_id = volumes[0] if volumes else ""
    return Builder(raw.instance_id, key, raw.state.name, launched_at, volume_id, parse_record(tags), reason, tags)
