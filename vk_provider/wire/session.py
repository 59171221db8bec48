"""Messages of the session between provider and agent: JSON objects with a `type`, over one WebSocket.

The types here are the contract and its schema: `wire.inbound` decodes the messages up by them.

Everything is level-triggered and idempotent: `pod` always carries the whole desired state, `status` the whole actual
state. After a reconnect both sides simply send their newest state again; only events carry a sequence number, and are
repeated until acknowledged.

Down (provider -> agent): pod, references, services, stop, ack; table (wire.tables); sources (wire.blobs); credentials
                          (wire.identity).
Up (agent -> provider):   hello, status, event, stats; tables (wire.tables); images (wire.images); notice
                          (wire.notices); blobs (wire.blobs); identity (wire.identity).
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from vk_provider.jsontypes import Json
from vk_provider.wire.blobs import PEERS_FEATURE, BlobsMessage
from vk_provider.wire.identity import IDENTITY_FEATURE, IdentityMessage
from vk_provider.wire.images import IMAGES_FEATURE, ImagesMessage
from vk_provider.wire.notices import NOTICES_FEATURE, NoticeMessage
from vk_provider.wire.podstats import CadvisorContainer, NodeStats, PodStats, ProbeCount
from vk_provider.wire.podstatus import PodStatus
from vk_provider.wire.tables import TableName, TablesMessage, TableStates
from vk_provider.wire.values import (
    MAX_INTEGER,
    Counter,
    EventText,
    FieldPath,
    Grant,
    Name,
    ReasonText,
    Timestamp,
    Uid,
)

MAX_DOWN_BYTES = 64 << 20
"""A pod is sent with all its references, and a ConfigMap or Secret has 1 MiB at most."""
MAX_UP_BYTES = 2 << 20
"""A status or a sample of a pod with a thousand containers; an object of the API has 1.5 MiB at most."""
MAX_EVENT_COUNT = 1_000_000
"""Limit of the occurrences that one event message counts."""
SERVICES_FEATURE = "services"
"""In the greeting of an agent that takes Services apart from the references; others have them in `references`."""
FEATURES: tuple[str, ...] = (SERVICES_FEATURE, IMAGES_FEATURE, NOTICES_FEATURE, PEERS_FEATURE, IDENTITY_FEATURE)
"""Features of this agent beyond its wire version, sent in its greeting."""


class TokenReference(TypedDict):
    """One bound service account token. `key` in References.tokens is `token_key(audience, expiration_seconds)`."""

    token: str
    expirationTimestamp: str


class References(TypedDict, total=False):
    """The objects that the pod refers to, resolved by the provider. A missing object has the value None.

    configMaps/secrets: name -> {"data", "binaryData", "immutable", "resourceVersion"} (secret data stays base64)
    tokens:             token_key -> TokenReference
    services:           as of PodMessage; only to agents without SERVICES_FEATURE
    trustBundles:       bundle key (see podmodel.references) -> PEM text
    podCertificates:    "<volume>/<source index>" -> {"key": PEM, "certificateChain": PEM}
    runtimeHandler:     CRI runtime handler of the pod's RuntimeClass ("" default)
    registryLogins:     registry host -> {"username", "password"}: the Node's own, at the registries of the pod's images
    errors:             "configmap/<name>" | "secret/<name>" | "token/<key>" -> message, when it could not be read
    """

    configMaps: dict[str, Json | None]
    secrets: dict[str, Json | None]
    tokens: dict[str, TokenReference]
    services: list[Json]
    trustBundles: dict[str, str]
    podCertificates: dict[str, Json]
    runtimeHandler: str
    registryLogins: dict[str, Json]
    errors: dict[str, str]


class NodeFacts(TypedDict):
    """Facts about the Node that the pod needs (downward API defaults, DNS).

    allocatable: the Node's allocatable resources, as quantities {"cpu": "2", "memory": "4Gi"}: this instance's
    sharedHostPaths: directories of the instance that other pods of the Node write, too
    tables:      the tables that are sent to this instance: no container starts before each was in force once
    tellImages:  the provider takes ImagesMessage; tellNotices: and NoticeMessage; podIdentity: and IdentityMessage
    grant:       proves that this instance was given the pod; the agent keeps it and repeats it in its greetings
    """

    name: str
    allocatable: dict[str, str]
    clusterDNS: list[str]
    clusterDomain: str
    sharedHostPaths: NotRequired[list[str]]
    tables: NotRequired[list[TableName]]
    tellImages: NotRequired[bool]
    tellNotices: NotRequired[bool]
    podIdentity: NotRequired[bool]
    grant: NotRequired[str]


class PodMessage(TypedDict):
    """The whole desired state: the API's Pod object as read (spec, metadata incl. deletionTimestamp, status).

    services: the pod namespace's Services and default/kubernetes, for the environment variables of containers that are
              created: [{"name", "namespace", "clusterIP", "ports": [{"name", "port", "protocol"}]}]
    """

    type: Literal["pod"]
    pod: Json
    references: References
    services: NotRequired[list[Json]]
    node: NodeFacts


class ReferencesMessage(TypedDict):
    """References changed (live update of volumes, new tokens); replaces the whole `references`."""

    type: Literal["references"]
    references: References


class ServicesMessage(TypedDict):
    """Services of the pod's environment changed: for the next container that is created."""

    type: Literal["services"]
    services: list[Json]


class StopMessage(TypedDict):
    """Stop the pod although the API object does not ask for it (eviction, admission, object force-deleted, an instance
    that the cloud takes back). disruption: the pod has the condition DisruptionTarget then."""

    type: Literal["stop"]
    gracePeriodSeconds: int
    reason: str
    message: str
    disruption: NotRequired[bool]


class HelloMessage(TypedDict):
    """First message up.

    version:  of the wire contract that the agent speaks
    features: beyond that version; absent in earlier agents
    podUID:   "" before a pod was given to this instance
    grant:    that came with the pod; absent where none came
    tables:   revisions that are in force; absent in agents without TABLES_FEATURE
    memoryBytes: what the instance's operating system has; absent where others have a part of it
    """

    type: Literal["hello"]
    version: Annotated[int, Meta(ge=1, le=1000)]
    features: NotRequired[Annotated[list[Name], Meta(max_length=64)]]
    instanceID: Name
    podUID: Uid
    grant: NotRequired[Grant]
    agentStartedAt: Timestamp
    tables: NotRequired[TableStates]
    memoryBytes: NotRequired[Counter]


class StatusMessage(TypedDict):
    """The kubelet-owned PodStatus. `finished`: nothing of the pod runs any more and its volumes are unmounted."""

    type: Literal["status"]
    podUID: Uid
    status: PodStatus
    finished: bool


class EventMessage(TypedDict):
    """One event about the pod, with the kubelet's reason and message. Events of equal key may be aggregated.

    seq: increases with each event of the pod, also over restarts of the agent: podUID and seq identify the event
    """

    type: Literal["event"]
    seq: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    podUID: Uid
    eventType: Literal["Normal", "Warning"]
    reason: ReasonText
    message: EventText
    fieldPath: FieldPath
    timestamp: Timestamp
    count: NotRequired[Annotated[int, Meta(ge=1, le=MAX_EVENT_COUNT)]]


class StatsMessage(TypedDict):
    """One stats sample: `pod` is shaped like an entry of /stats/summary's `pods`; `node` the instance's own figures.

    cadvisor: what /metrics/cadvisor adds, per container ("" for the pod sandbox)
    probes:   prober_probe_total
    """

    type: Literal["stats"]
    podUID: Uid
    timestamp: Timestamp
    pod: PodStats
    node: NodeStats
    cadvisor: NotRequired[Annotated[list[CadvisorContainer], Meta(max_length=1024)]]
    probes: NotRequired[Annotated[list[ProbeCount], Meta(max_length=8192)]]


UpMessage = (
    HelloMessage
    | StatusMessage
    | EventMessage
    | StatsMessage
    | TablesMessage
    | ImagesMessage
    | NoticeMessage
    | BlobsMessage
    | IdentityMessage
)


def token_key(audience: str, expiration_seconds: int) -> str:
    """Key of one requested token within References.tokens."""
    return f"{audience}|{expiration_seconds}"
