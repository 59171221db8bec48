"""Objects of a list are read without what nobody looks at: they mean the same as the whole objects."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import orjson
import pytest

from tests.service_history import generate_history
from tests.service_objects import make_service
from tests.unit.routing.objects import endpoints, service
from vk_provider.jsontypes import Json
from vk_provider.kube.answers import decode_page, read_item
from vk_provider.kube.services import read_listed_service, trim_service
from vk_provider.routing.objects import read_listed_slice, trim_slice
from vk_provider.serviceproxy.index import read_service, read_slice

MORE = {"managedFields": [{"manager": "m"}], "annotations": {"a": "b"}, "uid": "u", "resourceVersion": "7"}


def listed(item: Json) -> Json:
    made = copy.deepcopy(item)
    made["metadata"] |= MORE
    return made


def raw(item: Any) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(item))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_of_a_list_means_the_same(seed: int) -> None:
    for services, slices in generate_history(seed, 0, 20):
        for item in map(listed, services.values()):
            read = read_listed_service(raw(item))
            assert read_service(read) == read_service(item)
            assert trim_service(copy.deepcopy(read)) == trim_service(item)
        for item in map(listed, slices.values()):
            read = read_listed_slice(raw(item))
            assert read_slice(read) == read_slice(item)
            assert trim_slice(copy.deepcopy(read)) == trim_slice(item)


def test_only_what_matters_is_read() -> None:
    read = read_listed_service(raw(listed(service(1))))
    assert (
        not {"managedFields", "annotations"} & read["metadata"].keys() and "targetPort" not in read["spec"]["ports"][0]
    )
    assert (
        not {"managedFields", "annotations"} & read_listed_slice(raw(listed(endpoints(1)))).get("metadata", {}).keys()
    )


def test_an_object_of_another_form_is_read_as_a_whole() -> None:
    odd = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}
    assert read_listed_service(raw(odd)) == trim_service(copy.deepcopy(odd))
    strange = listed(make_service("b", "10.96.0.2", healthCheckNodePort="none"))
    assert read_listed_service(raw(strange)) == trim_service(copy.deepcopy(strange))
    without = {"metadata": {"name": "a", "namespace": "n"}, "endpoints": [{"addresses": "10.1.0.1"}]}
    assert read_listed_slice(raw(without)) == trim_slice(copy.deepcopy(without))


def test_a_page_without_items_is_empty() -> None:
    for page in ({"metadata": {"resourceVersion": "5"}, "items": None}, {"metadata": {"resourceVersion": "5"}}):
        items, metadata = decode_page(orjson.dumps(page), read_item)
        assert not list(items) and metadata["resourceVersion"] == "5"
