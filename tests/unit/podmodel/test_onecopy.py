"""Parts of pods that are equal are the same object, and nothing that is said changes."""

from __future__ import annotations

import copy
import runpy
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vk_provider import jsontypes
from vk_provider.podmodel.onecopy import MAX_TEXT, OneCopy, share_strings


def make(name: str, **container: Any) -> Any:
    """Decoded for itself, as each pod is."""
    document = {
        "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "main", "image": "a:1", "resources": {"requests": {"cpu": "1"}}, **container}],
            "tolerations": [{"key": "a", "operator": "Exists"}],
        },
    }
    return orjson.loads(orjson.dumps(document))


def test_pods_of_one_template_share_what_is_equal() -> None:
    parts = OneCopy()
    first, second = make("a"), make("b")
    parts.share(first)
    parts.share(second)
    assert (first, second) == (make("a"), make("b"))
    assert first["spec"]["containers"] is second["spec"]["containers"]
    assert first["spec"]["tolerations"] is second["spec"]["tolerations"]
    assert first["metadata"]["labels"] is second["metadata"]["labels"]
    assert first["spec"]["nodeName"] is second["spec"]["nodeName"]


def test_of_containers_that_differ_the_equal_parts_are_shared() -> None:
    """As those of a ReplicaSet do, by the name of the volume with their token."""
    parts = OneCopy()
    first, second = (make(name, volumeMounts=[{"name": f"kube-api-access-{name}"}]) for name in "ab")
    parts.share(first)
    parts.share(second)
    (one,), (other,) = first["spec"]["containers"], second["spec"]["containers"]
    assert one != other and one["volumeMounts"] != other["volumeMounts"]
    assert one["resources"] is other["resources"] and one["image"] is other["image"]


def test_a_newer_object_of_the_same_pod_has_the_spec_of_the_one_before() -> None:
    parts = OneCopy(parts=0)
    first, second, changed = make("a"), make("a"), make("a", image="a:2")
    parts.share(first)
    parts.share(second, first)
    parts.share(changed, second)
    assert second["spec"] is first["spec"]
    assert changed["spec"]["containers"][0]["image"] == "a:2"


def test_what_is_remembered_is_bounded() -> None:
    parts = OneCopy(parts=3)
    for number in range(20):
        parts.share(make(f"p{number}", env=[{"name": "N", "value": str(number)}]))
    assert len(parts._known) == 3
    parts.share(make("large", args=["x" * MAX_TEXT]))
    assert all(len(text) <= MAX_TEXT for text in parts._known)


def test_values_that_only_python_takes_for_equal_are_not_exchanged() -> None:
    parts = OneCopy()
    documents = [make("a", ports=[value]) for value in (1, True, 1.0, [1, {}], ["1"])]
    texts = [orjson.dumps(document) for document in documents]
    for document in documents:
        parts.share(document)
    assert [orjson.dumps(document) for document in documents] == texts


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(("", "a", "b" * 200)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_strings_are_shared_and_say_the_same(value: Any) -> None:
    text = orjson.dumps(value)
    assert orjson.dumps(share_strings(copy.deepcopy(value))) == text


def test_equal_strings_of_a_status_are_one_object() -> None:
    status = orjson.loads(b'{"a": "2026-01-01T00:00:00Z", "b": [{"c": "2026-01-01T00:00:00Z"}]}')
    assert status["a"] is not status["b"][0]["c"]
    shared = share_strings(status)
    assert shared is status and status["a"] is status["b"][0]["c"]


@pytest.mark.parametrize(("version", "shares"), [((3, 11, 9), True), ((3, 12, 1), False), ((3, 13, 0), True)])
def test_a_python_that_forgets_no_string_is_given_none_to_remember(
    version: tuple[int, ...], shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    share_text = runpy.run_path(jsontypes.__file__)["share_text"]
    monkeypatch.undo()
    first, second = (b"what an agent says".decode() for _ in range(2))
    assert share_text(first) == "what an agent says"
    assert (share_text(first) is share_text(second)) is shares
