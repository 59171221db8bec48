"""All calls that this cloud makes of AWS, each with the shape of its answer. The permissions of the provider are
exactly these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from vk_provider.cloud.aws import answers, secretanswers
from vk_provider.cloud.base import Offering

AnswerT = TypeVar("AnswerT")
Raw = dict[str, Any]
"""An answer that its reader judges: the catalog."""
Service = Literal["ec2", "pricing", "sqs", "ssm", "ecr", "ecr-public", "eks-auth"]


@dataclass(frozen=True, slots=True)
class Operation(Generic[AnswerT]):
    """name: as AWS and its permissions spell it. method: of the SDK."""

    service: Service
    name: str
    method: str
    answer: type[AnswerT]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a call goes that does not go to the cloud's own Region. fips: to an endpoint with FIPS 140 validation."""

    region: str
    fips: bool = False


RUN_INSTANCES = Operation("ec2", "RunInstances", "run_instances", answers.Reservation)
CREATE_FLEET = Operation("ec2", "CreateFleet", "create_fleet", answers.Fleet)
DESCRIBE_INSTANCES = Operation("ec2", "DescribeInstances", "describe_instances", answers.Reservations)
TERMINATE_INSTANCES = Operation("ec2", "TerminateInstances", "terminate_instances", answers.Nothing)
STOP_INSTANCES = Operation("ec2", "StopInstances", "stop_instances", answers.Nothing)
START_INSTANCES = Operation("ec2", "StartInstances", "start_instances", answers.Nothing)
CREATE_TAGS = Operation("ec2", "CreateTags", "create_tags", answers.Nothing)
ASSIGN_ADDRESSES = Operation(
    "ec2", "AssignPrivateIpAddresses", "assign_private_ip_addresses", answers.AssignedAddresses
)
ASSIGN_IPV6_ADDRESSES = Operation("ec2", "AssignIpv6Addresses", "assign_ipv6_addresses", answers.AssignedIpv6Addresses)
CREATE_TEMPLATE = Operation("ec2", "CreateLaunchTemplate", "create_launch_template", answers.Nothing)
DESCRIBE_TEMPLATES = Operation("ec2", "DescribeLaunchTemplates", "describe_launch_templates", answers.LaunchTemplates)
DELETE_TEMPLATE = Operation("ec2", "DeleteLaunchTemplate", "delete_launch_template", answers.Nothing)
DESCRIBE_SUBNETS = Operation("ec2", "DescribeSubnets", "describe_subnets", answers.Subnets)
DESCRIBE_IMAGES = Operation("ec2", "DescribeImages", "describe_images", answers.Images)
GET_CONSOLE_OUTPUT = Operation("ec2", "GetConsoleOutput", "get_console_output", answers.ConsoleOutput)
CREATE_SNAPSHOT = Operation("ec2", "CreateSnapshot", "create_snapshot", answers.Snapshot)
DESCRIBE_SNAPSHOTS = Operation("ec2", "DescribeSnapshots", "describe_snapshots", answers.Snapshots)
DELETE_SNAPSHOT = Operation("ec2", "DeleteSnapshot", "delete_snapshot", answers.Nothing)
RUN_BUILDER = Operation("ec2", "RunInstances", "run_instances", answers.BuilderReservation)
DESCRIBE_BUILDERS = Operation("ec2", "DescribeInstances", "describe_instances", answers.Builders)
DESCRIBE_TYPES = Operation("ec2", "DescribeInstanceTypes", "describe_instance_types", Raw)
DESCRIBE_TYPE_OFFERINGS = Operation("ec2", "DescribeInstanceTypeOfferings", "describe_instance_type_offerings", Raw)
DESCRIBE_SPOT_PRICES = Operation("ec2", "DescribeSpotPriceHistory", "describe_spot_price_history", Raw)
GET_PRODUCTS = Operation("pricing", "GetProducts", "get_products", Raw)
GET_PARAMETER = Operation("ssm", "GetParameter", "get_parameter", answers.ParameterAnswer)
RECEIVE_MESSAGES = Operation("sqs", "ReceiveMessage", "receive_message", answers.Messages)
DELETE_MESSAGES = Operation("sqs", "DeleteMessageBatch", "delete_message_batch", answers.Nothing)
GET_AUTHORIZATION_TOKEN = Operation(
    "ecr", "GetAuthorizationToken", "get_authorization_token", secretanswers.AuthorizationTokens
)
GET_PUBLIC_AUTHORIZATION_TOKEN = Operation(
    "ecr-public", "GetAuthorizationToken", "get_authorization_token", secretanswers.PublicAuthorizationToken
)
ASSUME_ROLE_FOR_POD_IDENTITY = Operation(
    "eks-auth", "AssumeRoleForPodIdentity", "assume_role_for_pod_identity", secretanswers.PodIdentityAnswer
)


class AwsApi(Protocol):
    """The door to AWS."""

    async def call(
        self,
        operation: Operation[AnswerT],
        parameters: Mapping[str, Any],
        offering: Offering | None = None,
        *,
        site: Site | None = None,
    ) -> AnswerT:
        """One call, once: nothing is repeated. Raises the CloudError of what AWS said (cloud.codes, where `offering` is
        the one that was asked for), AwsError's `code` included, or CloudAccessError."""
