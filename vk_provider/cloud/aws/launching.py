"""One launch request: the ways are tried until the account accepts one; what comes of it is the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from vk_provider.cloud.aws.addresses import SecondAddresses
from vk_provider.cloud.aws.answers import Fleet
from vk_provider.cloud.aws.description import Descriptions
from vk_provider.cloud.aws.fleet import FULL, find_failures, name_unexplained, read_instances
from vk_provider.cloud.aws.images import ImageFacts, Images
from vk_provider.cloud.aws.operations import CREATE_FLEET, RUN_INSTANCES, AwsApi
from vk_provider.cloud.aws.options import read_options
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.specification import LaunchPlan, Override, build_fleet, build_run, build_template
from vk_provider.cloud.aws.stores.volume import StoreVolume
from vk_provider.cloud.aws.subnets import Subnets
from vk_provider.cloud.aws.templates import GONE, LaunchTemplates
from vk_provider.cloud.aws.ways import Address, Call, Refusals, Way, plan_ways
from vk_provider.cloud.base import TAG_LAUNCH, Instance, LaunchAnswer, LaunchFailure, LaunchRequest
from vk_provider.cloud.codes import code_of
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import CapacityError, CloudAccessError, CloudError, CloudRequestError, CloudThrottledError

log = logging.getLogger(__name__)

MAX_OVERRIDES = 60
TOKENS = 4096
OLD_S = 5.0
"""An instance that is older than its call by so much was made by an earlier one: the answer may be as old."""
TEMPLATE_TRIES, TEMPLATE_PAUSE_S = 4, 0.5
"""A launch template that was just made may not be known everywhere."""
REFUSED = "InvalidParameterCombination"
MISMATCH = "IdempotentParameterMismatch"
_NO_SNAPSHOT = frozenset({"InvalidSnapshot.NotFound", "InvalidSnapshotID.NotFound"})
_NO_VOLUME = frozenset({"MaxIOPSLimitExceeded", "VolumeLimitExceeded"})


class _WayRefused(Exception):
    """The account does not take this way."""

    def __init__(self, error: CloudError) -> None:
        super().__init__(str(error))
        self.error = error


class StoresOfLaunches(Protocol):
    """See stores.AwsImageStores."""

    def hold(self, handle: str) -> AbstractContextManager[None]: ...

    def find(self, handle: str, machine_image: str, architecture: str) -> StoreVolume | None: ...

    def lose(self, handle: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Network:
    """Where instances are launched, and what with."""

    subnets: Subnets
    images: Images
    templates: LaunchTemplates
    addresses: SecondAddresses
    stores: StoresOfLaunches


class Launcher:
    def __init__(self, api: AwsApi, settings: AwsCloudSettings, network: Network, descriptions: Descriptions) -> None:
        self._api = api
        self._settings = settings
        self._subnets, self._images = network.subnets, network.images
        self._templates, self._addresses = network.templates, network.addresses
        self._stores, self._descriptions = network.stores, descriptions
        self._refusals = Refusals()
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._emptied: OrderedDict[str, int] = OrderedDict()
        self._volumes: OrderedDict[str, StoreVolume | None] = OrderedDict()
        self._mismatched: dict[str, float] = {}

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        """See cloud.base.Cloud.launch."""
        known = self._tokens.get(request.client_token)
        if known is not None:
            check_same_parameters(request, known)
        check_tags(request.tags)
        if request.shared_host_paths:
            raise CloudRequestError("Unsupported: instances of EC2 share no directories")
        with self._stores.hold(request.image_store):
            return await self._launch(request)

    async def _launch(self, request: LaunchRequest) -> LaunchAnswer:
        plan = await self._plan(request)
        check_user_data(plan.user_data)
        try:
            answer = await self._try_ways(plan)
            if plan.store is not None and _is_about_store(answer):
                answer = await self._launch_without(plan, plan.store, answer)
        except CloudError as error:
            if error.effect_unknown:
                self._remember(request)
            if code_of(error) != MISMATCH:
                raise
            return await self._find_earlier(request, error)
        if answer.instances:
            self._remember(request)
        else:
            self._emptied[request.client_token] = self._emptied.pop(request.client_token, 0) + 1
            if len(self._emptied) > TOKENS:
                self._emptied.popitem(last=False)
        return answer

    async def _launch_without(self, plan: LaunchPlan, store: StoreVolume, answer: LaunchAnswer) -> LaunchAnswer:
        """The store could not be had: its snapshot is gone, or there is room for no more volumes. The agents pull."""
        request = plan.request
        if any(code_of(failure.error) in _NO_SNAPSHOT for failure in answer.failures):
            self._stores.lose(store.snapshot_id)
        self._volumes[request.client_token] = None
        self._emptied[request.client_token] = self._emptied.pop(request.client_token, 0) + 1
        return await self._try_ways(await self._plan(request))

    def _remember(self, request: LaunchRequest) -> None:
        self._tokens[request.client_token] = digest_parameters(request)
        if len(self._tokens) > TOKENS:
            self._tokens.popitem(last=False)

    # --- plan ----------------------------------------------------------------------------------------------------

    async def _plan(self, request: LaunchRequest) -> LaunchPlan:
        """One call is for offerings of one capacity type and architecture: those of the first. The caller comes again
        for the others when they have nothing."""
        options = read_options(request.options, self._settings)
        first = request.offerings[0]
        image = await self._images.find(first.architecture, options.image)
        zone = await self._subnets.find_zone(options.subnet) if options.subnet else ""
        overrides = []
        for offering in request.offerings:
            if (offering.capacity_type, offering.architecture) != (first.capacity_type, first.architecture):
                continue
            if options.subnet:
                subnets = [options.subnet] if offering.zone == zone else []
            else:
                subnets = self._subnets.of_zone(offering.zone)
            overrides += [Override(offering, subnet_id) for subnet_id in subnets]
        if not overrides:
            where = f"subnet {options.subnet} is in {zone}" if options.subnet else "no subnet is configured there"
            raise CloudRequestError(f"InvalidParameterValue: no instance can be launched in {first.zone}: {where}")
        emptied = self._emptied.get(request.client_token, 0)
        store = self._find_volume(request, image)
        chosen = tuple(overrides[:MAX_OVERRIDES])
        return LaunchPlan(request, chosen, image, options, emptied, store, self._settings.ipv6)

    def _find_volume(self, request: LaunchRequest, image: ImageFacts) -> StoreVolume | None:
        """The same for a call that is repeated, whatever has become of the store."""
        if not request.image_store:
            return None
        if request.client_token not in self._volumes:
            found = self._stores.find(request.image_store, image.image_id, image.architecture)
            self._volumes[request.client_token] = found
            if len(self._volumes) > TOKENS:
                self._volumes.popitem(last=False)
        return self._volumes[request.client_token]

    # --- ways ----------------------------------------------------------------------------------------------------

    async def _try_ways(self, plan: LaunchPlan) -> LaunchAnswer:
        count = plan.request.count
        planned = plan_ways(self._settings.second_address, count, len(plan.overrides), ipv6=plan.ipv6)
        ways = self._refusals.left(planned, count)
        refused: list[Way] = []
        for way in ways:
            last = way is ways[-1]
            try:
                answer = await (self._run(plan, way, last) if way.call is Call.RUN else self._fleet(plan, way, last))
            except _WayRefused as refusal:
                log.info("the account does not launch %d instances by %s: %s", count, way, refusal)
                refused.append(way)
                continue
            for each in refused:
                self._refusals.add(each, count)
            return answer
        raise AssertionError("the last way is never refused")

    async def _run(self, plan: LaunchPlan, way: Way, last: bool) -> LaunchAnswer:
        (override,) = plan.overrides
        fresh_since = self._fresh_since(plan)
        try:
            answer = await self._api.call(RUN_INSTANCES, build_run(plan, way, self._settings), override.offering)
        except CloudError as error:
            code = code_of(error)
            if code == REFUSED and not last:
                raise _WayRefused(error) from error
            if error.effect_unknown or isinstance(error, (CloudAccessError, CloudThrottledError)) or code == MISMATCH:
                raise
            return LaunchAnswer((), (LaunchFailure(override.offering, self._of_subnet(error, plan, override)),))
        if way.address in (Address.AFTER, Address.BARE):
            for raw in answer.instances:
                self._addresses.assign(raw, is_new=True)
        instances = await self._refresh([self._addresses.complete(raw) for raw in answer.instances], fresh_since)
        return _complete(plan, instances, [])

    def _of_subnet(self, error: CloudError, plan: LaunchPlan, override: Override) -> CloudError:
        """A full subnet is a full zone only where it is all that the settings have there."""
        if code_of(error) != FULL:
            return error
        offering = override.offering
        if plan.options.subnet and self._subnets.of_zone(offering.zone) != [override.subnet_id]:
            return CapacityError(str(error), offering.instance_type, offering.zone, offering.capacity_type)
        return error

    async def _fleet(self, plan: LaunchPlan, way: Way, last: bool) -> LaunchAnswer:
        try:
            fleet = await self._create_fleet(plan, way)
        except CloudError as error:
            code = code_of(error)
            if code == REFUSED and not last:
                raise _WayRefused(error) from error
            if not isinstance(error, CloudRequestError) or code == MISMATCH:
                raise
            return LaunchAnswer((), (LaunchFailure(plan.overrides[0].offering, error),))
        made = read_instances(fleet, plan, time.time(), self._subnets.zone_of)
        failures = find_failures(fleet, plan)
        if not made and failures and all(code_of(failure.error) == REFUSED for failure in failures) and not last:
            raise _WayRefused(failures[0].error)
        return _complete(plan, await self._refresh(made, self._fresh_since(plan)), failures)

    async def _create_fleet(self, plan: LaunchPlan, way: Way) -> Fleet:
        data = {kind: build_template(plan, way, self._settings, is_burstable=kind) for kind in plan.kinds}
        async with AsyncExitStack() as stack:
            hold = self._templates.hold
            names = {kind: await stack.enter_async_context(hold(each)) for kind, each in data.items()}
            parameters = build_fleet(plan, names, way, self._settings)
            for attempt in range(TEMPLATE_TRIES):
                try:
                    return await self._api.call(CREATE_FLEET, parameters, plan.overrides[0].offering)
                except CloudRequestError as error:
                    if code_of(error) not in GONE:
                        raise
                    if attempt:
                        await asyncio.sleep(TEMPLATE_PAUSE_S)
                    for kind, name in names.items():  # the error does not always say which one
                        await self._templates.make(name, data[kind])
            raise CloudError(f"the launch templates {', '.join(names.values())} are not known everywhere yet")

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _fresh_since(self, plan: LaunchPlan) -> float:
        """An instance that was launched before was launched by an earlier call with the same token."""
        return float("inf") if plan.request.client_token in self._tokens else time.time() - OLD_S

    async def _refresh(self, instances: list[Instance], fresh_since: float) -> list[Instance]:
        """What is known of them now, where the answer has no addresses or repeats an earlier one."""
        stale = [each for each in instances if not each.primary_ip or each.launch_time < fresh_since]
        if not stale:
            return instances
        try:
            found = {
                each.instance_id: each for each in await self._descriptions.describe([i.instance_id for i in stale])
            }
        except CloudError as error:
            log.info("new instances are described by the next listing: %s", error)
            return instances
        return [found.get(each.instance_id, each) for each in instances]

    async def _find_earlier(self, request: LaunchRequest, error: CloudError) -> LaunchAnswer:
        """The token was used for other parameters. By its tag it was the same launch: something that is no part of the
        token has changed since (an image behind a parameter, a setting), and the instances of then are the answer."""
        launch_id = request.tags.get(TAG_LAUNCH, "")
        if not launch_id:
            raise error
        found = await self._descriptions.find_launch(launch_id)
        if found:
            self._mismatched.pop(request.client_token, None)
            self._remember(request)
            missing = request.count - len(found)
            failures = (LaunchFailure(request.offerings[0], name_unexplained(len(found), request)),) if missing else ()
            return LaunchAnswer(tuple(found[: request.count]), failures)
        since = self._mismatched.setdefault(request.client_token, time.monotonic())
        if time.monotonic() - since < self._settings.listing_lag_s:
            raise CloudError(f"{error}; what it was used for is not listed yet")
        del self._mismatched[request.client_token]
        raise error


def _is_about_store(answer: LaunchAnswer) -> bool:
    """Nothing was launched, and the volume of the store is why."""
    codes = {code_of(failure.error) for failure in answer.failures}
    return not answer.instances and bool(codes & (_NO_SNAPSHOT | _NO_VOLUME))


def _complete(plan: LaunchPlan, instances: list[Instance], failures: list[LaunchFailure]) -> LaunchAnswer:
    """EC2 does not always say why it brought less than was asked for."""
    if len(instances) < plan.request.count and not failures:
        failures = [LaunchFailure(plan.overrides[0].offering, name_unexplained(len(instances), plan.request))]
    return LaunchAnswer(tuple(instances), tuple(failures))
