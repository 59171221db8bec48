"""A cluster's Services for the tests of this room, and nft text applied to sets in memory."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tests.service_objects import make_endpoint, make_service, make_slice
from vk_provider.agentclient.tables import TableText
from vk_provider.serviceproxy.table import Table

Json = dict[str, Any]
_COMMAND = re.compile(r"(add|delete) element inet vk-services (\S+) \{ (.*) \}")


def service(number: int) -> Json:
    return make_service(f"s{number}", f"10.96.{number >> 8}.{number & 255}")


def endpoints(number: int, *addresses: str, **more: Any) -> Json:
    return make_slice(f"s{number}", *(make_endpoint(address, **more) for address in addresses))


def message_of(text: TableText | None) -> Json:
    assert text is not None
    message: Json = orjson.loads(text.frame)
    assert (message["base"], message["revision"]) == (text.base, text.revision)
    return message


class AppliedTable:
    """The elements that texts leave in force; a difference fails as a whole on another revision, as with nft."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[str, str]] = {}

    @property
    def revision(self) -> str:
        return next(iter(self.elements.get("revision", {})), "")

    def apply(self, message: Json) -> None:
        found = {} if message["base"] == "" else {name: dict(held) for name, held in self.elements.items()}
        for line in message["text"].splitlines():
            matched = _COMMAND.fullmatch(line)
            if matched is None:
                continue
            verb, container, listed = matched.groups()
            for item in listed.split(", "):
                key, _, value = item.partition(" : ")
                held = found.setdefault(container, {})
                if verb == "delete":
                    del held[key]
                else:
                    assert held.get(key, value) == value
                    held[key] = value
        self.elements = {name: held for name, held in found.items() if held}

    def shows(self, table: Table) -> bool:
        """Whether it is just this table."""
        wanted: dict[str, dict[str, str]] = {"revision": {table.revision: ""}}
        for element in table.elements():
            wanted.setdefault(element.container, {})[element.key] = element.value
        return self.elements == wanted
