"""TerminateInstances: hundreds of IDs in one call. One bad ID fails the whole call: then halves, then singles.

What is no ID's fault (a permission, say) is the result of all: taken apart, it would be a call for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.cloud.aws.operations import TERMINATE_INSTANCES, AwsApi
from vk_provider.cloud.base import TerminateResult
from vk_provider.cloud.codes import code_of
from vk_provider.errors import CloudError, CloudRequestError

AT_ONCE = 1000
UNKNOWN_ID = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})

OF_ONE_ID = UNKNOWN_ID | {"OperationNotPermitted", "IncorrectInstanceState", "UnsupportedOperation"}


async def terminate(api: AwsApi, instance_ids: Sequence[str]) -> list[TerminateResult]:
    """See cloud.base.Cloud.terminate. Raises CloudError when it holds for all of them."""
    results: dict[str, TerminateResult] = {}
    wanted = list(dict.fromkeys(instance_ids))
    for first in range(0, len(wanted), AT_ONCE):
        await _terminate(api, wanted[first : first + AT_ONCE], results)
    return [results[instance_id] for instance_id in instance_ids]


async def _terminate(api: AwsApi, instance_ids: list[str], results: dict[str, TerminateResult]) -> None:
    parts = [instance_ids]
    while parts:
        part = parts.pop()
        try:
            await api.call(TERMINATE_INSTANCES, {"InstanceIds": part})
        except CloudRequestError as error:
            if len(part) > 1 and code_of(error) in OF_ONE_ID:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                results.update(dict.fromkeys(part, None if code_of(error) in UNKNOWN_ID else error))
        except CloudError as error:
            if not results and len(part) == len(instance_ids):
                raise
            left = [*part, *(each for rest in parts for each in rest)]
            results.update(dict.fromkeys(left, error))
            return
        else:
            results.update(dict.fromkeys(part, None))
