"""One try to make the store of a set: a builder instance, then a snapshot of its volume.

Each step first looks at what there is, by tags: snapshot, builder, its answer. So a try that begins after a crash goes
on where the last one was, and a call without an answer is looked up before it is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.aws.images import ImageFacts
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.calls import Builder, Snapshot, StoreCalls
from vk_provider.cloud.aws.stores.record import StoreRecord, build_record_tags
from vk_provider.cloud.aws.stores.specification import (
    BuilderLaunch,
    build_builder,
    price_builder,
    price_disks,
)
from vk_provider.cloud.aws.stores.volume import Parameters
from vk_provider.cloud.base import Offering
from vk_provider.cloud.codes import code_of
from vk_provider.cloud.imagestores import (
    BuilderDiedError,
    CorruptImageError,
    ImageStoreError,
    NoBudgetError,
    NoCosts,
    StoreCosts,
    StoreFullError,
    StoreRefusedError,
)
from vk_provider.errors import (
    CapacityError,
    CloudAccessError,
    CloudError,
    CloudQuotaError,
    CloudRequestError,
    CloudThrottledError,
)
from vk_provider.wire.imagebuild import BuildAnswer, BuildOrder, Cause, OrderedImage, RegistryHost, find_answer

log = logging.getLogger(__name__)

POLL_S = 5.0
"""Between two looks at a builder or a snapshot: nobody waits for a store, and both take a minute or more."""
MAX_PLACES = 5
BOOT_S = 300.0
"""Beside the builder's own limit: until it runs, and until its snapshot is complete, which EC2 gives no limit for."""
SNAPSHOT_LIMIT_S = 3600.0
_QUOTAS = frozenset(
    {
        "ConcurrentSnapshotLimitExceeded",
        "MaxIOPSLimitExceeded",
        "SnapshotLimitExceeded",
        "VolumeLimitExceeded",
    }
)
_ERRORS: dict[Cause, type[ImageStoreError]] = {
    "refused": StoreRefusedError,
    "corrupt": CorruptImageError,
    "full": StoreFullError,
    "failed": ImageStoreError,
}


class VolumeTooSmallError(StoreFullError):
    """The images do not fit on the volume; a larger one may do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """record: of the store to be. places: where a builder may be launched (offering, subnet), the best first."""

    record: StoreRecord
    image: ImageFacts
    places: Sequence[tuple[Offering, str]]
    registries: dict[str, RegistryHost]
    volume_gib: int
    max_bytes: int


@dataclass(slots=True)
class _Progress:
    """What this process knows that listings may not show yet. Times are monotonic seconds; 0.0: not yet."""

    deadline: float
    token: str
    place: int = 0
    launched: str = ""
    launched_at: float = 0.0
    asked_at: float = 0.0
    snapshot_asked_at: float = 0.0
    snapshot_deadline: float = 0.0


@dataclass(slots=True)
class Preparation:
    """ended: builders of earlier tries, which listings may show as running. costs: asked before a builder is launched,
    and told of it. `run` once."""

    calls: StoreCalls
    settings: AwsCloudSettings
    owner: str
    plan: Plan
    ended: set[str]
    costs: StoreCosts = NoCosts()
    builders: set[str] = field(default_factory=set)
    """Those that it has seen: not to be used any more after it."""

    async def run(self) -> Snapshot:
        """The completed snapshot. Raises ImageStoreError, or the CloudError of a call that EC2 refuses."""
        limit_s = self.settings.image_stores.builder_limit_s + BOOT_S
        progress = _Progress(time.monotonic() + limit_s, f"vk-images-{secrets.token_hex(16)}")
        backoff = Backoff(POLL_S, max(60.0, POLL_S))
        while True:
            delay_s = POLL_S
            try:
                found = await self._step(progress)
                if found is not None:
                    return found
                backoff.reset()
            except ImageStoreError:
                raise
            except CloudError as error:
                if isinstance(error, CloudRequestError | CloudQuotaError | CapacityError):
                    raise self._explain(error) from error
                # Throttled, without an answer, without access: nothing is concluded.
                log.info("the preparation of images %s waits: %s", self.plan.record.images.key, error)
                delay_s = max(backoff.next_delay_s(), getattr(error, "retry_after_s", 0.0))
            if time.monotonic() > (progress.snapshot_deadline or progress.deadline):
                raise BuilderDiedError(f"no prepared images after {limit_s:g} s")
            await asyncio.sleep(delay_s)

    def _explain(self, error: CloudError) -> CloudError:
        if isinstance(error, CloudQuotaError) or code_of(error) in _QUOTAS:
            return StoreFullError(str(error))
        return ImageStoreError(str(error))

    # --- steps ---------------------------------------------------------------------------------------------------

    async def _step(self, progress: _Progress) -> Snapshot | None:
        key = self.plan.record.images.key
        snapshots = await self.calls.list_snapshots(key)
        for snapshot in snapshots:
            if snapshot.is_lost:
                await self.calls.delete_snapshot(snapshot.snapshot_id)
        ours = [each for each in snapshots if self._is_of_plan(each.record) and not each.is_lost]
        if completed := [each for each in ours if each.is_completed]:
            return completed[0]
        if ours:
            progress.snapshot_deadline = progress.snapshot_deadline or time.monotonic() + SNAPSHOT_LIMIT_S
            return None
        if progress.snapshot_deadline and any(each.is_lost for each in snapshots):
            raise ImageStoreError("EC2 could not complete the snapshot of the prepared images")
        builders = [each for each in await self.calls.list_builders(key) if self._is_of_plan(each.record)]
        alive = [each for each in builders if each.is_alive and each.instance_id not in self.ended]
        self.builders.update(each.instance_id for each in alive)
        builder = next((each for each in builders if each.instance_id == progress.launched), None)
        builder = builder or (alive[0] if alive else None)
        if builder is None:
            await self._launch(progress)
            return None
        await self._look_at(builder, progress)
        return None

    def _is_of_plan(self, record: StoreRecord | None) -> bool:
        wanted = self.plan.record
        if record is None:
            return False
        return (record.images, record.machine_image, record.architecture) == (
            wanted.images,
            wanted.machine_image,
            wanted.architecture,
        )

    async def _launch(self, progress: _Progress) -> None:
        now = time.monotonic()
        if progress.launched:
            if now - progress.launched_at > self.settings.listing_lag_s + BOOT_S:
                raise BuilderDiedError(f"the builder {progress.launched} is not there any more")
            return
        if progress.asked_at and now - progress.asked_at < self.settings.listing_lag_s:
            return  # a call without an answer: what it has made may be listed later
        if progress.place >= min(MAX_PLACES, len(self.plan.places)):
            raise ImageStoreError("there is no capacity for a builder of prepared images now")
        offering, subnet_id = self.plan.places[progress.place]
        launch = self._build_launch(f"{progress.token}-{progress.place}")
        parameters = build_builder(self.settings, launch, offering, subnet_id)
        self._check_budget(offering, parameters)
        progress.asked_at = now
        try:
            made = await self.calls.run_builder(parameters, offering)
        except (CapacityError, CloudQuotaError) as error:
            progress.place, progress.asked_at = progress.place + 1, 0.0
            if progress.place >= min(MAX_PLACES, len(self.plan.places)):
                raise
            log.info("a builder of prepared images is tried elsewhere: %s", error)
            return
        except (CloudThrottledError, CloudAccessError):
            progress.asked_at = 0.0
            raise
        if made is not None:
            progress.launched, progress.launched_at = made.instance_id, now
            self.builders.add(made.instance_id)
            self.costs.note_builder(made.describe(offering))

    def _check_budget(self, offering: Offering, parameters: Parameters) -> None:
        price = price_builder(offering) + price_disks(parameters, offering)
        if not self.costs.may_spend(price):
            raise NoBudgetError(
                f"a builder for ${price:.4f} an hour is beyond what pods leave of the budget (budget.usd_per_hour, "
                "budget.instances)"
            )

    def _build_launch(self, client_token: str) -> BuilderLaunch:
        plan, record = self.plan, self.plan.record
        order = BuildOrder(
            nonce=record.nonce,
            images=[OrderedImage(each.reference, each.digest) for each in record.images.images],
            registries=plan.registries,
            max_bytes=plan.max_bytes,
            limit_s=self.settings.image_stores.builder_limit_s,
        )
        tags = build_record_tags(self.owner, record)
        assert tags is not None, "checked by who has made the plan"
        return BuilderLaunch(plan.image, tags, order.to_user_data(), plan.volume_gib, client_token)

    async def _look_at(self, builder: Builder, progress: _Progress) -> None:
        assert builder.record is not None
        console = await self.calls.read_console(builder.instance_id)
        answer = find_answer(console, builder.record.nonce)
        if answer is not None and answer.cause is not None:
            _raise(answer)
        if not builder.is_alive:
            raise BuilderDiedError(f"the builder {builder.instance_id} has ended: {builder.reason or builder.state}")
        if answer is None:
            if time.time() - builder.launched_at > self.settings.image_stores.builder_limit_s + BOOT_S:
                raise BuilderDiedError(f"the builder {builder.instance_id} has not answered in time")
            return
        if not builder.volume_id:
            return  # not attached yet, as the listing says
        now = time.monotonic()
        if progress.snapshot_asked_at and now - progress.snapshot_asked_at < max(self.settings.listing_lag_s, POLL_S):
            return
        tags = build_record_tags(self.owner, replace(builder.record, size_bytes=max(1, answer.size_bytes)))
        assert tags is not None
        progress.snapshot_asked_at = now
        try:
            await self.calls.create_snapshot(builder.volume_id, tags)
        except (CloudThrottledError, CloudAccessError):
            progress.snapshot_asked_at = 0.0
            raise
        progress.snapshot_deadline = now + SNAPSHOT_LIMIT_S


def _raise(answer: BuildAnswer) -> NoReturn:
    assert answer.cause is not None
    kind = VolumeTooSmallError if answer.cause == "full" else _ERRORS[answer.cause]
    raise kind(f"images cannot be prepared: {answer.message}")
