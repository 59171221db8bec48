"""Required node affinity and NoExecute taints, as component-helpers and core/v1 decide."""

from __future__ import annotations

import time

import pytest

from vk_provider.jsontypes import Json
from vk_provider.podmodel.nodematch import MAX_REQUIREMENTS, matches_node, tolerates_node

LABELS = {"disk": "ssd", "cores": "8", "neg": "-3", "odd": "many", "empty": "", "big": "99999999999999999999"}


def node(*taints: Json) -> Json:
    return {"metadata": {"name": "n1", "labels": LABELS}, "spec": {"taints": list(taints)}}


def pod(*terms: Json, **spec: object) -> Json:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"spec": {"affinity": {"nodeAffinity": required}, **spec}}


def expression(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, "values": list(values)}


def matches(given: Json) -> bool:
    return matches_node(given, node(), lambda key: key == "instance")


@pytest.mark.parametrize(
    ("key", "operator", "values", "met"),
    [
        ("disk", "In", ("hdd", "ssd"), True),
        ("disk", "In", ("hdd",), False),
        ("none", "In", ("",), False),
        ("empty", "In", ("",), True),
        ("disk", "In", (), False),
        ("disk", "NotIn", ("ssd",), False),
        ("disk", "NotIn", ("hdd",), True),
        ("none", "NotIn", ("ssd",), True),
        ("none", "NotIn", (), False),
        ("disk", "Exists", (), True),
        ("none", "Exists", (), False),
        ("disk", "Exists", ("ssd",), False),
        ("none", "DoesNotExist", (), True),
        ("disk", "DoesNotExist", (), False),
        ("cores", "Gt", ("7",), True),
        ("cores", "Gt", ("8",), False),
        ("cores", "Lt", ("9",), True),
        ("cores", "Lt", ("+08",), False),
        ("neg", "Lt", ("-2",), True),
        ("none", "Gt", ("0",), False),
        ("none", "Lt", ("0",), False),
        ("odd", "Gt", ("0",), False),
        ("cores", "Gt", ("few",), False),
        ("cores", "Gt", ("1", "2"), False),
        ("cores", "Gt", ("1_0",), False),
        ("cores", "Lt", (" 9",), False),
        ("cores", "Gt", ("\u0661",), False),
        ("cores", "Lt", ("9223372036854775807",), True),
        ("cores", "Lt", ("9223372036854775808",), False),
        ("big", "Gt", ("1",), False),
        ("cores", "Lt", ("9" * 100_000,), False),
        ("disk", "Near", ("ssd",), False),
    ],
)
def test_a_label_is_matched_by_every_operator(key: str, operator: str, values: tuple[str, ...], met: bool) -> None:
    assert matches(pod({"matchExpressions": [expression(key, operator, *values)]})) is met


@pytest.mark.parametrize(
    ("key", "operator", "values", "met"),
    [
        ("metadata.name", "In", ("n1",), True),
        ("metadata.name", "In", ("n2",), False),
        ("metadata.name", "In", ("n1", "n2"), False),
        ("metadata.name", "NotIn", ("n2",), True),
        ("metadata.name", "NotIn", ("n1",), False),
        ("metadata.name", "Exists", (), False),
        ("spec.unschedulable", "In", ("",), True),
    ],
)
def test_the_name_is_a_field_with_one_value(key: str, operator: str, values: tuple[str, ...], met: bool) -> None:
    assert matches(pod({"matchFields": [expression(key, operator, *values)]})) is met


def test_terms_are_alternatives_and_a_terms_parts_all_count() -> None:
    met, unmet = expression("disk", "Exists"), expression("none", "Exists")
    here, elsewhere = expression("metadata.name", "In", "n1"), expression("metadata.name", "In", "n2")
    assert matches(pod({"matchExpressions": [unmet]}, {"matchExpressions": [met], "matchFields": [here]}))
    assert not matches(pod({"matchExpressions": [met, unmet]}))
    assert not matches(pod({"matchExpressions": [met], "matchFields": [elsewhere]}))


def test_a_term_that_cannot_be_read_and_an_empty_one_match_nothing() -> None:
    met, odd = expression("disk", "Exists"), expression("disk", "Near", "x")
    assert not matches(pod({}))
    assert not matches(pod())
    assert not matches(pod({"matchExpressions": [met, odd]}))
    assert matches(pod({"matchExpressions": [odd]}, {"matchExpressions": [met]}))


def test_the_selector_counts_beside_the_affinity() -> None:
    met = {"matchExpressions": [expression("disk", "Exists")]}
    assert matches(pod(met, nodeSelector={"cores": "8"}))
    assert not matches(pod(met, nodeSelector={"cores": "9"}))
    assert matches({"spec": {}})
    assert matches({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}})


def test_a_requirement_that_is_left_out_counts_as_met() -> None:
    left_out = expression("instance", "In", "x")
    assert matches(pod({"matchExpressions": [left_out]}, nodeSelector={"instance": "y"}))
    assert not matches(pod({"matchExpressions": [left_out, expression("none", "Exists")]}))
    assert not matches(pod({"matchExpressions": [expression("instance", "Near", "x")]}))


def test_a_pod_with_more_requirements_than_any_has_matches_nothing_and_takes_no_time() -> None:
    unmet, met = expression("none", "Exists"), {"matchExpressions": [expression("disk", "Exists")]}
    started = time.perf_counter()
    assert matches(pod(*[{"matchExpressions": [unmet]}] * (MAX_REQUIREMENTS - 1), met))
    assert not matches(pod(met, *[{"matchExpressions": [unmet] * 1000}] * 100))
    assert not matches(pod({"matchExpressions": [expression("disk", "In", *["x"] * 500_000)]}))
    assert time.perf_counter() - started < 2


K = {"key": "k", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 5}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k"}, False),
        ({"value": "v"}, True),
        ({"key": "k", "operator": "Gt", "value": "1"}, False),
    ],
)
def test_a_taint_is_tolerated_by_key_value_and_effect(toleration: Json, tolerated: bool) -> None:
    assert tolerates_node({"spec": {"tolerations": [toleration]}}, node(K)) is tolerated


def test_every_taint_of_no_execute_counts_and_no_other() -> None:
    given = {"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}
    assert tolerates_node(given, node({**K, "effect": "NoSchedule", "key": "x"}, K))
    assert not tolerates_node(given, node(K, {"key": "x", "effect": "NoExecute"}))
    assert tolerates_node({"spec": {}}, {"metadata": {}})
    assert tolerates_node({"spec": {"tolerations": [{"key": "e"}]}}, node({"key": "e", "effect": "NoExecute"}))


def test_many_tolerations_of_many_taints_take_no_time() -> None:
    tolerations = [{"key": f"k{number}", "operator": "Exists"} for number in range(50_000)]
    taints = [{"key": f"k{number}", "effect": "NoExecute"} for number in range(2_000)]
    started = time.perf_counter()
    assert tolerates_node({"spec": {"tolerations": tolerations}}, node(*taints))
    assert time.perf_counter() - started < 2
