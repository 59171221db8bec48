"""All pages of a listing."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.cloud.base import Cloud, Instance


@dataclass(frozen=True, slots=True)
class Listing:
    """instances, builders: see InstancePage; each once."""

    instances: list[Instance]
    builders: list[Instance]


async def list_owned(cloud: Cloud) -> list[Instance]:
    """See list_all, without builders."""
    return (await list_all(cloud)).instances


async def list_all(cloud: Cloud) -> Listing:
    """All that is of our owner. Raises CloudError when one page fails: a part of a listing would make instances missing
    that are not."""
    found: dict[str, Instance] = {}
    builders: dict[str, Instance] = {}
    page = ""
    while True:
        answer = await cloud.list_page(page)
        for instance in answer.instances:
            found[instance.instance_id] = instance
        builders |= {builder.instance_id: builder for builder in answer.builders}
        page = answer.next_page
        if not page:
            return Listing(list(found.values()), list(builders.values()))
