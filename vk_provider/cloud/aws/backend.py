"""EC2 as settings choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_provider.cloud.aws.settings import AwsCloudSettings, find_problem
from vk_provider.cloud.backend import CloudBackend, CloudContext
from vk_provider.errors import BadStartError

if TYPE_CHECKING:
    from vk_provider.cloud.aws.cloud import AwsCloud


def _create(settings: AwsCloudSettings, context: CloudContext) -> AwsCloud:
    try:
        from vk_provider.cloud.aws.cloud import AwsCloud
    except ModuleNotFoundError as error:
        raise BadStartError(f'the cloud "aws" needs the extra "aws" of vk-provider: {error}') from error

    return AwsCloud(settings, context.owner)


BACKEND = CloudBackend(name="aws", settings=AwsCloudSettings, create=_create, check=find_problem)
