"""What the provider calls in these tests, compared with the policy that the manifests give it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.iam.needs import ACCOUNT, REGION, Needs
from tests.iam.policy import Policy, read_provider_policy
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.operations import Operation

HERE = Path(__file__).parent
NOT_CALLED_HERE = {
    "ec2:DescribeInstanceTypeOfferings": "the catalog is filled once a session, maybe before, and kept on disk",
    "ec2:DescribeInstanceTypes": "the catalog is filled once a session, maybe before, and kept on disk",
    "eks-auth:AssumeRoleForPodIdentity": "moto has no EKS Auth; tests/unit/cloud and tests/integration/agent have one",
    "pricing:GetProducts": "moto has no prices; tests/integration/catalog has a server of its own for them",
    "ecr:BatchCheckLayerAvailability": "not the provider's: what a login is good for",
    "ecr:BatchGetImage": "not the provider's: what a login is good for",
    "ecr:GetDownloadUrlForLayer": "not the provider's: what a login is good for",
}
"""Actions of the policy that no test of this directory needs, and why."""
ADDED = ("ssm:GetParameter",)
"""manifests/aws/README.md: a parameter outside of /aws/service is added to FindImages."""


class Calls:
    """Those of a test, judged at its end: what has its tags by then has had them from its creation on. refused: what
    the policy would not have allowed, with the test's name."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.refused: list[str] = []
        self._made: deque[tuple[str, str, Mapping[str, Any]]] = deque()

    def note(self, operation: Operation[Any], parameters: Mapping[str, Any]) -> None:
        self._made.append((operation.service, operation.name, parameters))

    def judge(self, test: str, owners: tuple[str, ...], tags: Mapping[str, Mapping[str, str]]) -> None:
        """By the policy of each of these owners, of which one must do. tags: of all that exists, by ID."""
        needs = Needs(tags.get)
        policies: dict[tuple[str, str], Policy] = {}
        while self._made:
            service, name, parameters = self._made.popleft()
            queue = str(parameters.get("QueueUrl", "")).rpartition("/")[2] or "QUEUE"
            cluster = str(parameters.get("clusterName", "CLUSTER"))
            asked = needs.of(service, name, parameters)
            wanted = [each for each in asked if not (each.action in ADDED and f":{ACCOUNT}:" in each.resource)]
            for owner in owners:
                key = owner, queue
                policy = policies.get(key) or policies.setdefault(key, read_provider_policy(owner, queue, cluster))
                if all(policy.allows(need) for need in wanted):
                    self.used |= {need.action for need in asked}
                    break
            else:
                policy = policies[owners[0], queue]
                self.refused += [f"{test}: {name}: {need}" for need in wanted if not policy.allows(need)]

    def unused(self) -> set[str]:
        return set(read_provider_policy("o").actions()) - self.used - NOT_CALLED_HERE.keys()


def record(patch: pytest.MonkeyPatch) -> Calls:
    """From now on, whoever makes them."""
    calls, call = Calls(), AwsClient.call

    async def noted(self: AwsClient, operation: Any, parameters: Any, *more: Any, **named: Any) -> Any:
        calls.note(operation, parameters)
        return await call(self, operation, parameters, *more, **named)

    patch.setattr(AwsClient, "call", noted)
    assert (REGION, ACCOUNT) == ("eu-central-1", "123456789012"), "moto's"
    return calls


def is_complete(session: pytest.Session) -> bool:
    """Whether the run has all tests of this directory, and none has failed: else nothing is said of what is unused."""
    option = session.config.option
    chosen = option.keyword or option.markexpr or any("::" in each for each in session.config.args)
    files = {item.path for item in session.items if item.path.parent == HERE}
    return not chosen and not session.testsfailed and files == set(HERE.glob("test_*.py"))
