"""Launch templates: made by the hash of their content, used again by who repeats the call, and swept by tag and age.

A template has the user data of one launch, boot secret included: it is of no use to anybody once its outcome is known,
and instances do not need it after their launch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from vk_provider.cloud.aws.operations import CREATE_TEMPLATE, DELETE_TEMPLATE, DESCRIBE_TEMPLATES, AwsApi
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.specification import build_tags, name_template
from vk_provider.cloud.base import TAG_OWNER
from vk_provider.cloud.codes import code_of
from vk_provider.errors import CloudError, CloudRequestError

log = logging.getLogger(__name__)

EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"
GONE = frozenset({"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"})
PAGE = 200
DELETE_PAUSE_S = 0.2
"""Between two deletions: nothing waits for them."""


class LaunchTemplates:
    def __init__(self, api: AwsApi, settings: AwsCloudSettings, owner: str) -> None:
        self._api = api
        self._prefix = settings.launch_template_prefix
        self._keep_s = settings.launch_template_keep_s
        self._owner = owner
        self._made: set[str] = set()
        self._used: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, data: Mapping[str, Any]) -> AsyncIterator[str]:
        """The name of a template with that content, which no sweep takes away meanwhile. Raises CloudError."""
        name = name_template(data, self._prefix)
        self._used[name] += 1
        try:
            if name not in self._made:
                await self.make(name, data)
            yield name
        finally:
            self._used[name] -= 1
            if not self._used[name]:
                del self._used[name]

    async def make(self, name: str, data: Mapping[str, Any]) -> None:
        """Also where it is believed to be there."""
        tags = build_tags({TAG_OWNER: self._owner})
        parameters = {
            "LaunchTemplateName": name,
            "LaunchTemplateData": data,
            "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
        }
        try:
            await self._api.call(CREATE_TEMPLATE, parameters)
        except CloudRequestError as error:
            if code_of(error) != EXISTS:
                raise
        self._made.add(name)

    async def sweep(self) -> int:
        """Delete those that are older than settings.launch_template_keep_s and not in use; returns how many. Raises
        CloudError; the next sweep goes on."""
        deleted, page = 0, ""
        old = []
        while True:
            parameters: dict[str, Any] = {
                "Filters": [{"Name": f"tag:{TAG_OWNER}", "Values": [self._owner]}],
                "MaxResults": PAGE,
            }
            if page:
                parameters["NextToken"] = page
            answer = await self._api.call(DESCRIBE_TEMPLATES, parameters)
            old += [each for each in answer.launch_templates if self._is_old(each.create_time)]
            page = answer.next_token
            if not page:
                break
        for template in old:
            name = template.launch_template_name
            if not name.startswith(f"{self._prefix}-") or self._used[name]:
                continue
            self._made.discard(name)
            try:
                await self._api.call(DELETE_TEMPLATE, {"LaunchTemplateId": template.launch_template_id})
            except CloudRequestError as error:
                if code_of(error) not in GONE:
                    raise
            deleted += 1
            await asyncio.sleep(DELETE_PAUSE_S)
        return deleted

    def _is_old(self, created: Any) -> bool:
        return created is not None and created.timestamp() < time.time() - self._keep_s

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(self._keep_s / 3)
            try:
                await self.sweep()
            except CloudError as error:
                log.warning("launch templates are not swept: %s", error)
