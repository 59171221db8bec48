"""All pages of a listing."""

from __future__ import annotations

from vk_provider.cloud.base import Cloud, Instance


async def list_owned(cloud: Cloud) -> list[Instance]:
    """All instances of our owner, each once. Raises CloudError when one page fails: a part of a listing would make
    instances missing that are not."""
    found: dict[str, Instance] = {}
    page = ""
    while True:
        answer = await cloud.list_page(page)
        for instance in answer.instances:
            found[instance.instance_id] = instance
        page = answer.next_page
        if not page:
            return list(found.values())
