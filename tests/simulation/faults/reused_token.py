"""A client token stands for pod and attempt, and a request is made anew for each try: changed labels are refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from vk_provider.cloud.base import TAG_LAUNCH, Instance, LaunchRequest
from vk_provider.errors import CloudError
from vk_provider.pods import launcher
from vk_provider.pods.record import PodRecord


def put_back() -> None:
    build, launch = launcher.build_request, launcher.PodLauncher.launch

    def build_request(record: PodRecord, *arguments: Any) -> LaunchRequest:
        request = build(record, *arguments)
        token, boot_data = f"{record.uid}-{record.attempt}", arguments[3]
        launch_id, user_data = boot_data(token)
        tags = {**request.tags, TAG_LAUNCH: launch_id}
        return replace(request, client_token=token, tags=tags, user_data=user_data)

    async def launch_anew(
        self: launcher.PodLauncher, record: PodRecord, queued: asyncio.Future[Instance] | None = None
    ) -> None:
        try:
            await launch(self, record, queued)
        except CloudError:
            record.launch = None
            raise

    launcher.build_request = build_request
    launcher.PodLauncher.launch = launch_anew  # type: ignore[method-assign]
