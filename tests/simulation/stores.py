"""What EC2 knows of prepared images: the builders and snapshots of all providers, and the API that one process of them
calls. Stores themselves are vk_provider.cloud.aws.stores."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from tests.simulation.invariants import OUTLIVED, Violation
from tests.simulation.loop import Reply, outside_later
from vk_provider.cloud.aws import answers
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.operations import (
    CREATE_SNAPSHOT,
    DELETE_SNAPSHOT,
    DESCRIBE_BUILDERS,
    DESCRIBE_SNAPSHOTS,
    GET_CONSOLE_OUTPUT,
    RUN_BUILDER,
    TERMINATE_INSTANCES,
    Operation,
)
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.calls import StoreCalls
from vk_provider.cloud.aws.stores.settings import ImageStoreSettings
from vk_provider.cloud.aws.stores.stores import AwsImageStores, Surroundings
from vk_provider.cloud.aws.stores.volume import STORE_DEVICE
from vk_provider.cloud.base import TAG_IMAGE_SET, InstanceState, Offering
from vk_provider.errors import CloudError, CloudRequestError
from vk_provider.imagesets.imageset import PinnedImage
from vk_provider.wire.imagebuild import BuildAnswer, BuildOrder

DIGEST = "sha256:" + "1" * 64
ARCHITECTURE = "amd64"
BUILD_S, SNAPSHOT_S = 8.0, 6.0
LAG_S = 3.0
"""What is new is missing from listings for so long."""
LIMIT_S = 120


@dataclass
class Builder:
    order: BuildOrder
    tags: list[answers.Tag]
    launched_at: float
    ended: bool = False

    @property
    def console(self) -> str:
        return BuildAnswer(1000).to_line(self.order.nonce) if time.time() >= self.launched_at + BUILD_S else ""


@dataclass
class Snapshot:
    tags: list[answers.Tag]
    started_at: float


class StoreServer:
    """It outlives every provider. ever: IDs of all that there was."""

    def __init__(self, rng: random.Random) -> None:
        self.builders: dict[str, Builder] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.ever: set[str] = set()
        self._tokens: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._rng = rng

    def latency_s(self) -> float:
        return self._rng.uniform(0.02, 0.4)

    def judge(self, kept: int) -> Iterator[Violation]:
        """kept: how many snapshots there are to be."""
        running = [name for name, each in self.builders.items() if not each.ended]
        if running:
            yield Violation(OUTLIVED, f"builders of images: {running}")
        if len(self.snapshots) != kept:
            yield Violation(OUTLIVED, f"snapshots of images: {list(self.snapshots)}, of {kept}")

    def do(self, operation: Operation[Any], parameters: Mapping[str, Any]) -> Any:
        """One call, as it arrives. Raises CloudError."""
        if operation is RUN_BUILDER:
            return answers.BuilderReservation(instances=[self._run(parameters)])
        if operation is DESCRIBE_BUILDERS:
            old = (name for name, each in self.builders.items() if each.launched_at <= time.time() - LAG_S)
            found = [self._describe(name) for name in old]
            listed = [each for each in found if _matches(each.tags, parameters)]
            return answers.Builders(reservations=[answers.BuilderReservation(instances=listed)])
        if operation is GET_CONSOLE_OUTPUT:
            return answers.ConsoleOutput(output=self.builders[parameters["InstanceId"]].console)
        if operation is CREATE_SNAPSHOT:
            (tags,) = (each["Tags"] for each in parameters["TagSpecifications"])
            name = self._name("snap")
            self.snapshots[name] = Snapshot(_read_tags(tags), time.time())
            return self._show(name)
        if operation is DESCRIBE_SNAPSHOTS:
            new = time.time() - LAG_S
            shown = [self._show(name) for name, each in self.snapshots.items() if each.started_at <= new]
            return answers.Snapshots(snapshots=[each for each in shown if _matches(each.tags, parameters)])
        if operation is DELETE_SNAPSHOT:
            if self.snapshots.pop(parameters["SnapshotId"], None) is None:
                raise CloudRequestError(f"InvalidSnapshot.NotFound: {parameters['SnapshotId']}")
            return answers.Nothing()
        assert operation is TERMINATE_INSTANCES, operation.name
        for name in parameters["InstanceIds"]:
            self._end(name)
        return answers.Nothing()

    def _name(self, kind: str) -> str:
        name = f"{kind}-{next(self._numbers):017x}"
        self.ever.add(name)
        return name

    def _run(self, parameters: Mapping[str, Any]) -> answers.Builder:
        name = self._tokens.get(parameters["ClientToken"])
        if name is None:
            name = self._tokens[parameters["ClientToken"]] = self._name("i")
            (tags,) = (each["Tags"] for each in parameters["TagSpecifications"] if each["ResourceType"] == "instance")
            order = BuildOrder.from_user_data(parameters["UserData"])
            self.builders[name] = Builder(order, _read_tags(tags), time.time())
            outside_later(order.limit_s, self._end, name)
        return self._describe(name)

    def _end(self, name: str) -> None:
        self.builders[name].ended = True

    def _describe(self, name: str) -> answers.Builder:
        builder = self.builders[name]
        volume = answers.AttachedDevice(
            device_name=STORE_DEVICE, ebs=answers.AttachedVolume(volume_id=f"vol-of-{name}")
        )
        return answers.Builder(
            instance_id=name,
            state=answers.State(name=InstanceState.TERMINATED if builder.ended else InstanceState.RUNNING),
            launch_time=datetime.fromtimestamp(builder.launched_at, UTC),
            tags=builder.tags,
            block_device_mappings=[] if builder.ended else [volume],
        )

    def _show(self, name: str) -> answers.Snapshot:
        snapshot = self.snapshots[name]
        return answers.Snapshot(
            snapshot_id=name,
            state="completed" if time.time() >= snapshot.started_at + SNAPSHOT_S else "pending",
            start_time=datetime.fromtimestamp(snapshot.started_at, UTC),
            volume_size=4,
            tags=snapshot.tags,
        )


def _read_tags(given: Sequence[Mapping[str, str]]) -> list[answers.Tag]:
    return [answers.Tag(key=each["Key"], value=each["Value"]) for each in given]


def _matches(tags: Sequence[answers.Tag], parameters: Mapping[str, Any]) -> bool:
    """Of the filters, the one for a set."""
    wanted = [each["Values"] for each in parameters["Filters"] if each["Name"] == f"tag:{TAG_IMAGE_SET}"]
    return all(any(tag.key == TAG_IMAGE_SET and tag.value in values for tag in tags) for values in wanted)


class StoreApi:
    """vk_provider.cloud.aws.operations.AwsApi of one process. A call that was sent is carried out although its caller
    was killed."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server

    async def call(
        self, operation: Operation[Any], parameters: Mapping[str, Any], offering: Offering | None = None
    ) -> Any:
        reply = Reply()

        def arrive() -> None:
            try:
                result = self._server.do(operation, parameters)
            except CloudError as error:
                result = error
            outside_later(self._server.latency_s(), reply.deliver, result)

        outside_later(self._server.latency_s(), arrive)
        return await reply.wait()


class _Images:
    """One machine image."""

    architectures = (ARCHITECTURE,)

    async def find(self, architecture: str, name: str = "") -> ImageFacts:
        return ImageFacts("ami-0123456789abcdef0", architecture, "/dev/xvda", 8)


class _Subnets:
    def __init__(self, offerings: Sequence[Offering]) -> None:
        self.by_zone = {each.zone: ["subnet-1"] for each in offerings}


def build_stores(server: StoreServer, owner: str, offered: Sequence[Offering]) -> AwsImageStores:
    """Those of one process."""

    async def offerings() -> Sequence[Offering]:
        return offered

    settings = AwsCloudSettings(
        listing_lag_s=LAG_S, image_stores=ImageStoreSettings(enabled=True, builder_limit_s=LIMIT_S)
    )
    surroundings = Surroundings(cast(Any, _Images()), cast(Any, _Subnets(offered)), cast(Any, None), offerings, {})
    return AwsImageStores(StoreCalls(cast(Any, StoreApi(server)), owner), settings, owner, surroundings)


class Registry:
    """registry.client.RegistryClient: gives one image of each name to anybody."""

    def __init__(self, *_: Any) -> None:
        """Nothing to connect to."""

    async def resolve(self, reference: str, credential: Any) -> PinnedImage:
        await asyncio.sleep(0.05)
        return PinnedImage(reference, DIGEST)

    async def fetch_architectures(self, reference: str, credential: Any) -> frozenset[str]:
        return frozenset({ARCHITECTURE})

    async def close(self) -> None:
        """Nothing is open."""
