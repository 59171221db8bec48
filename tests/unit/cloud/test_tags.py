from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from vk_provider.cloud import base
from vk_provider.cloud.tags import (
    build_group_tags,
    build_pod_tags,
    build_pool_tags,
    build_taken_tags,
    check_tags,
    read_steady_cpu,
)
from vk_provider.cloud.userdata import encode_user_data
from vk_provider.errors import BadStartError, CloudRequestError
from vk_provider.settings import load_settings

GROUP = {"owner": "c1", "node": "n", "namespace": "ns", "group": "g"}


def test_tags_name_owner_node_and_group_and_labels_stand_under_a_prefix() -> None:
    labels = {base.TAG_OWNER: "thief", "aws:x": "y", "team": "a;b"}
    tags = build_group_tags(**GROUP, launch="g/token", labels=labels)
    assert tags[base.TAG_LAUNCH] == "g/token" and tags[base.TAG_GROUP] == "g"
    assert tags[base.TAG_OWNER] == "c1" and tags[base.TAG_POD_NAMESPACE] == "ns"
    assert tags["pod/team"] == "a_b" and tags[f"pod/{base.TAG_OWNER}"] == "thief"
    assert "team" not in tags, "permissions may look at tags, and who writes pods chooses labels"


def test_a_pod_with_many_labels_keeps_our_tags_and_as_many_of_its_own_as_fit() -> None:
    tags = build_group_tags(**GROUP, labels={f"label-{number}": "v" for number in range(80)})
    of_pod = build_pod_tags(pod_uid="u", pod_namespace="ns", pod_name="p", attempt=0)
    of_cloud = {base.TAG_DISKS: "root=20", base.TAG_FAMILIES: "ipv4+ipv6", base.TAG_STEADY_CPU: "1000"}
    assert len(tags | of_pod | of_cloud) == 50 and tags["pod/label-0"] == "v"
    assert (of_pod[base.TAG_POD_UID], of_pod[base.TAG_ATTEMPT], of_pod["Name"]) == ("u", "0", "ns/p")


@pytest.mark.parametrize("tags", [{"aws:x": "y"}, {"": "y"}, {"k" * 129: "v"}, {"k": "v" * 257}, {"k": "a\nb"}])
def test_tags_that_ec2_refuses_are_refused(tags: dict[str, str]) -> None:
    with pytest.raises(CloudRequestError):
        check_tags(tags)


def test_more_than_50_tags_are_refused() -> None:
    with pytest.raises(CloudRequestError, match="at most 50"):
        check_tags({f"k{number}": "" for number in range(51)})


def test_user_data_is_limited_before_base64() -> None:
    assert base64.b64decode(encode_user_data("x" * 16384)) == b"x" * 16384
    with pytest.raises(CloudRequestError, match="16385 bytes"):
        encode_user_data("x" * 16385)


@pytest.mark.parametrize("owner", ["", "a;b", "x" * 257])
def test_an_owner_that_a_tag_would_change_is_refused_as_its_instances_were_never_found_again(
    owner: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[[nodes]]\nname = "n"\n[cloud]\nowner = {json.dumps(owner)}\n')
    with pytest.raises(BadStartError, match=r"cloud\.owner"):
        load_settings(path, {})


def test_an_instance_of_a_pool_has_the_same_tags_in_the_end_but_for_two_labels() -> None:
    labels = {f"label-{number}": "v" for number in range(80)}
    of_pool = build_pool_tags(
        owner="c1", node="n", group="g", launch="l", pool="small", disks="root=20", image_store="s"
    )
    assert of_pool[base.TAG_POOL] == "small" and base.TAG_POD_NAMESPACE not in of_pool
    of_pod = build_pod_tags(pod_uid="u", pod_namespace="ns", pod_name="p", attempt=0)
    of_cloud = {base.TAG_FAMILIES: "ipv4+ipv6"}
    both = of_pool | of_pod | of_cloud | build_taken_tags("ns", labels, 1000)
    launched = (
        of_pod
        | of_cloud
        | build_group_tags(
            owner="c1",
            node="n",
            namespace="ns",
            group="g",
            launch="l",
            labels=labels,
            disks="root=20",
            steady_cpu_milli=1000,
        )
    )
    assert len(both) == 50 and len(launched.keys() - both.keys()) == 2
    assert both.keys() - launched.keys() == {base.TAG_POOL, base.TAG_IMAGE_STORE}
    assert both[base.TAG_POD_NAMESPACE] == "ns" and both["pod/label-0"] == "v"


@pytest.mark.parametrize(
    ("text", "expected"), [("1500", 1500), ("", 0), ("-1", 0), ("1e3", 0), ("٣", 0), ("9" * 10, 0)]
)
def test_the_tag_of_the_cpu_that_a_price_is_for_is_read_as_far_as_it_is_one(text: str, expected: int) -> None:
    assert read_steady_cpu({base.TAG_STEADY_CPU: text}) == expected and read_steady_cpu({}) == 0
