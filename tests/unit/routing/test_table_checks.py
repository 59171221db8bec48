"""The health checks of a table, followed from one table to the next."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from tests.service_objects import NODE, make_endpoint, make_service, make_slice
from tests.unit.serviceproxy.reading import list_checks
from vk_provider.routing.healthchecks import TableChecks
from vk_provider.serviceproxy.index import ServiceIndex


def service(number: int, port: int) -> dict[str, Any]:
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
    return make_service(f"shop/s{number}", f"10.96.0.{number}", **(spec if port else {}))


def test_they_are_those_of_the_newest_table_also_when_some_were_not_seen() -> None:
    choice = random.Random(7)
    index, checks = ServiceIndex(NODE), TableChecks()
    assert list(checks.follow(None)) == []
    followed = 0
    for turn in range(300):
        number = choice.randrange(1, 9)
        match choice.randrange(3):
            case 0:
                index.apply_service(service(number, choice.choice((0, 31000 + number, 32000 + number))))
            case 1:
                addresses = [f"10.1.0.{n}" for n in range(choice.randrange(3))]
                index.apply_slice(make_slice(f"shop/s{number}", *(make_endpoint(each, NODE) for each in addresses)))
            case _:
                index.remove_service("shop", f"s{number}")
        table = index.table("z1")
        if turn % 5 and choice.random() < 0.8:
            found = sorted(checks.follow(table))
            assert found == sorted(list_checks(table))
            followed += bool(found)
    assert followed > 50


def test_only_what_has_changed_is_looked_at() -> None:
    index, checks = ServiceIndex(NODE), TableChecks()
    for number in range(1, 100):
        index.apply_service(service(number, 31000 + number))
    assert len(list(checks.follow(index.table("z1")))) == 99
    index.apply_service(service(5, 0))
    table = index.table("z1")
    assert table.changed == {"shop/s5"}
    looked: list[str] = []

    class Fragments(dict):
        def get(self, key: str, default: Any = None) -> Any:
            looked.append(key)
            return super().get(key, default)

    assert len(list(checks.follow(replace(table, fragments=Fragments(table.fragments))))) == 98
    assert looked == ["shop/s5"]
