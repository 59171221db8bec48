"""The policy in manifests/iam allows the calls that are made, nothing else, and changes only what is ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vk_provider.cloud.aws import operations
from vk_provider.cloud.aws.operations import Operation
from vk_provider.cloud.base import TAG_OWNER

POLICY = Path(__file__).parents[3] / "manifests" / "iam" / "provider.json"
PERMISSIONS = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}
"""Where AWS calls the permission otherwise than the call."""
WITH_THE_LOGIN = {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
"""No calls of the provider: what a login at Amazon ECR is good for is what its principal may do."""
BESIDE = {"ecr-public:GetAuthorizationToken": "sts:GetServiceBearerToken"}
"""A permission that a call needs beside its own."""
READS = ("Describe", "Get", "Receive", "BatchGet", "BatchCheck")
ON_OTHERS_THINGS = {"LaunchInto", "HearNotices", "AnswerPodIdentity"}
"""Statements on what is not ours: networks and images that are launched into, a queue and a cluster that are named."""


def statements() -> list[dict[str, Any]]:
    document = json.loads(POLICY.read_text())
    assert document["Version"] == "2012-10-17"
    return list(document["Statement"])


def actions(statement: dict[str, Any]) -> set[str]:
    action = statement["Action"]
    return {action} if isinstance(action, str) else set(action)


def test_exactly_the_calls_that_are_made_are_allowed() -> None:
    found = {each for each in vars(operations).values() if isinstance(each, Operation)}
    made = {f"{each.service}:{each.name}" for each in found}
    assert len(found) > 20
    allowed = set().union(*map(actions, statements()))
    needed = {PERMISSIONS.get(name, name) for name in made} | {BESIDE[name] for name in made & BESIDE.keys()}
    assert allowed == needed | WITH_THE_LOGIN


@pytest.mark.parametrize("statement", statements(), ids=lambda statement: statement["Sid"])
def test_what_changes_something_is_bound_to_our_tag(statement: dict[str, Any]) -> None:
    assert statement["Effect"] == "Allow"
    changes = {name for name in actions(statement) if not name.partition(":")[2].startswith(READS)}
    if not changes or statement["Sid"] in ON_OTHERS_THINGS:
        return
    conditions = statement["Condition"]["StringEquals"]
    assert {f"aws:RequestTag/{TAG_OWNER}", f"aws:ResourceTag/{TAG_OWNER}"} & conditions.keys()
    assert statement["Resource"] != "*"
