"""TerminateInstances, StopInstances and StartInstances: hundreds of IDs in one call. One bad ID fails the whole call:
then halves, then singles.

What is no ID's fault (a permission, say) is the result of all: taken apart, it would be a call for each. So is a lack
of capacity for a start, once a few calls have met it: what is short for many is short for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.cloud.aws.answers import Nothing
from vk_provider.cloud.aws.operations import START_INSTANCES, STOP_INSTANCES, TERMINATE_INSTANCES, AwsApi, Operation
from vk_provider.cloud.base import StateResult, TerminateResult
from vk_provider.cloud.codes import ANOTHER_CAPACITY_TYPE, ANOTHER_OFFERING, ANOTHER_ZONE, FAMILY_FULL, code_of
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError, CloudRequestError

AT_ONCE = 1000
UNKNOWN_ID = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})

OF_ONE_ID = UNKNOWN_ID | {"OperationNotPermitted", "IncorrectInstanceState", "UnsupportedOperation"}
SHORT = ANOTHER_OFFERING | ANOTHER_CAPACITY_TYPE | ANOTHER_ZONE | FAMILY_FULL
MAX_SHORT = 8
"""Calls of one batch that are taken apart for want of capacity: enough to find one short instance among 250."""


async def terminate(api: AwsApi, instance_ids: Sequence[str]) -> list[TerminateResult]:
    """See cloud.base.Cloud.terminate. Raises CloudError when it holds for all of them."""
    results = await _change(api, TERMINATE_INSTANCES, instance_ids)
    return [None if error is not None and code_of(error) in UNKNOWN_ID else error for error in results]


async def stop(api: AwsApi, instance_ids: Sequence[str]) -> list[StateResult]:
    """See cloud.base.Cloud.stop_instances. The instances' shutdown behaviour holds for a shutdown from within alone:
    one that terminates then is stopped by this call all the same."""
    return await _change(api, STOP_INSTANCES, instance_ids)


async def start(api: AwsApi, instance_ids: Sequence[str]) -> list[StateResult]:
    """See cloud.base.Cloud.start_instances."""
    return [
        CapacityError(str(error)) if isinstance(error, CloudRequestError) and code_of(error) in SHORT else error
        for error in await _change(api, START_INSTANCES, instance_ids)
    ]


async def _change(api: AwsApi, operation: Operation[Nothing], instance_ids: Sequence[str]) -> list[StateResult]:
    results: dict[str, StateResult] = {}
    wanted = list(dict.fromkeys(instance_ids))
    for first in range(0, len(wanted), AT_ONCE):
        await _change_part(api, operation, wanted[first : first + AT_ONCE], results)
    return [results[instance_id] for instance_id in instance_ids]


async def _change_part(
    api: AwsApi, operation: Operation[Nothing], instance_ids: list[str], results: dict[str, StateResult]
) -> None:
    parts, short = [instance_ids], 0
    while parts:
        part = parts.pop()
        try:
            await api.call(operation, {"InstanceIds": part})
        except (CloudRequestError, CloudQuotaError) as error:
            code = code_of(error)
            short += code in SHORT
            if len(part) > 1 and (code in OF_ONE_ID or (code in SHORT and short <= MAX_SHORT)):
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                results.update(dict.fromkeys(part, error))
        except CloudError as error:
            if not results and len(part) == len(instance_ids):
                raise
            left = [*part, *(each for rest in parts for each in rest)]
            results.update(dict.fromkeys(left, error))
            return
        else:
            results.update(dict.fromkeys(part, None))
