"""The template of EventBridge's rules: what it lets through is what the provider understands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cloud.test_aws_notices import INSTANCE, event
from vk_provider.cloud.aws.notices import parse_notices
from vk_provider.cloud.base import NoticeKind

TEMPLATE = Path(__file__).parents[3] / "manifests" / "notices" / "notices.yaml"


def read_template() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    return found


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    resources = read_template()["Resources"]
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def patterns() -> dict[str, dict[str, Any]]:
    return {name: rule["EventPattern"] for name, rule in of_type("AWS::Events::Rule").items()}


def matches(pattern: dict[str, Any], found: Any) -> bool:
    """As EventBridge does it for values: each field of the pattern is in the event, with one of the values."""
    if not isinstance(found, dict):
        return False
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            if not matches(wanted, found.get(name)):
                return False
        else:
            assert isinstance(wanted, list) and all(isinstance(each, str) for each in wanted), "no other operators here"
            if found.get(name) not in wanted:
                return False
    return True


def passes(body: str) -> list[str]:
    return [name for name, pattern in patterns().items() if matches(pattern, json.loads(body))]


def of_instance(kind: str, **detail: Any) -> str:
    return event("aws.ec2", kind, **{"instance-id": INSTANCE, **detail})


def health(service: str = "EC2", category: str = "scheduledChange", source: str = "aws.health") -> str:
    return event(
        source,
        "AWS Health Event",
        service=service,
        eventTypeCategory=category,
        eventTypeCode="AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        startTime="Sun, 05 Jun 2016 15:10:09 GMT",
        affectedEntities=[{"entityValue": INSTANCE}],
    )


STATE = "EC2 Instance State-change Notification"
WANTED = [
    ("SpotInterruption", of_instance("EC2 Spot Instance Interruption Warning", **{"instance-action": "terminate"})),
    ("RebalanceRecommendation", of_instance("EC2 Instance Rebalance Recommendation")),
    *(("StateChange", of_instance(STATE, state=s)) for s in ("stopping", "stopped", "shutting-down", "terminated")),
    ("ScheduledChange", health()),
]
UNWANTED = [
    of_instance(STATE, state="pending"),
    of_instance(STATE, state="running"),
    of_instance("EC2 Instance Launch Successful"),
    event("aws.ec2", "EBS Snapshot Notification", event="createSnapshot"),
    event("aws.ec2", "EC2 Fleet Instance Change", **{"instance-id": INSTANCE}),
    event("aws.autoscaling", "EC2 Spot Instance Interruption Warning", **{"instance-id": INSTANCE}),
    event("aws.events", "Scheduled Event"),
    event("aws.s3", "Object Created"),
    health(service="RDS"),
    health(category="issue"),
    health(category="accountNotification"),
    health(source="aws.ec2"),
]


@pytest.mark.parametrize(("rule", "body"), WANTED)
def test_what_the_provider_acts_on_passes_by_exactly_one_rule(rule: str, body: str) -> None:
    (notice,) = parse_notices(body)
    assert notice.instance_id == INSTANCE
    assert passes(body) == [rule]


@pytest.mark.parametrize("body", UNWANTED)
def test_nothing_else_passes(body: str) -> None:
    assert passes(body) == []


def test_all_kinds_of_notices_have_a_rule() -> None:
    kinds = {parse_notices(body)[0].kind for _, body in WANTED}
    assert kinds == set(NoticeKind) and {rule for rule, _ in WANTED} == patterns().keys()


def test_the_rules_of_the_template_alone_write_into_its_queue() -> None:
    rules = of_type("AWS::Events::Rule")
    (queue,) = of_type("AWS::SQS::Queue")
    arn = {"Fn::GetAtt": [queue, "Arn"]}
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    assert policy["Queues"] == [{"Ref": queue}]
    (allowed,) = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"} and allowed["Action"] == "sqs:SendMessage"
    assert allowed["Resource"] == arn
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": [{"Fn::GetAtt": [name, "Arn"]} for name in rules]}}
    for rule in rules.values():
        assert [target["Arn"] for target in rule["Targets"]] == [arn]
    assert {name for name in read_template()["Outputs"]} == {"QueueUrl", "QueueName"}
