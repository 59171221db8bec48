"""Who is asked: the provider's records, the API server, agents. Nothing is kept between questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Protocol

from vk_provider.agentclient.base import AgentConnector
from vk_provider.errors import AgentError, KubeApiError
from vk_provider.explain.facts import PodFacts
from vk_provider.explain.target import QuestionError
from vk_provider.explaining.pods import addresses_of, describe, describe_foreign
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import PODS, field_selector, namespaced_path, pod_path
from vk_provider.netpolicy.judgement import Connection, Judgement, RuleName
from vk_provider.netpolicy.peer import TERMINATED
from vk_provider.netpolicy.policy import Direction
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.endpoint import SERVICE_NAME_LABEL
from vk_provider.serviceproxy.table import Table
from vk_provider.settings import ClusterSettings
from vk_provider.wire import routes
from vk_provider.wire.inbound import WireError, decode_tables_answer
from vk_provider.wire.tables import MAX_ANSWER_BYTES, TablesAnswer

AGENT_LIMIT_S = 5.0
API_LIMIT_S = 10.0


class Policies(Protocol):
    """What questions need of routing.policies."""

    async def settle(self) -> None: ...

    def judge(self, uid: str, connection: Connection) -> Judgement | None: ...

    def describe_rule(self, direction: Direction, rule: RuleName) -> str: ...


class Network(Protocol):
    """What questions need of Networking."""

    @property
    def node_addresses(self) -> tuple[str, ...]: ...

    @property
    def policies(self) -> Policies: ...

    def zone_of(self, record: PodRecord) -> str: ...

    def service_table(self, record: PodRecord) -> Table | None: ...


class ObjectReader(Protocol):
    """Reads the API server; raises KubeApiError."""

    async def get(self, path: str, query: Mapping[str, str] | None = None, timeout_s: float = 30) -> Json: ...


class Sources:
    """records: the pods that the provider has now."""

    def __init__(
        self,
        records: Callable[[], Iterable[PodRecord]],
        network: Network,
        connector: AgentConnector,
        client: ObjectReader,
        cluster: ClusterSettings,
    ) -> None:
        self.network, self.cluster = network, cluster
        self._records, self._connector, self._client = records, connector, client

    def find_record(self, uid: str) -> PodRecord | None:
        return next((record for record in self._records() if record.uid == uid), None)

    def own_pods(self) -> dict[str, PodRecord]:
        """By address; those that have ended have none any more."""
        return {
            address: record
            for record in self._records()
            if record.exists and record.phase not in TERMINATED
            for address in addresses_of(record)
        }

    async def read_service(self, namespace: str, name: str) -> tuple[Json, list[Json]] | None:
        """The Service and its slices; None when it does not exist."""
        services = await self._list(namespaced_path("services", namespace), field_selector(metadata__name=name))
        if not services:
            return None
        slices = namespaced_path("endpointslices", namespace, api="/apis/discovery.k8s.io/v1")
        return services[0], await self._list(slices, {"labelSelector": f"{SERVICE_NAME_LABEL}={name}"})

    async def read_pod(self, namespace: str, name: str) -> PodFacts:
        """Raises QuestionError when there is none."""
        for record in self._records():
            if (record.namespace, record.name) == (namespace, name) and record.exists:
                return describe(record)
        try:
            return describe_foreign(await self._client.get(pod_path(namespace, name), timeout_s=API_LIMIT_S))
        except KubeApiError as error:
            if error.is_not_found:
                raise QuestionError(f"no pod {name!r} in namespace {namespace!r}") from None
            raise

    async def find_pod(self, address: str) -> PodFacts | None:
        """A pod of another node whose primary address it is: the API server finds no others. Those of the hosts'
        network have their node's."""
        for pod in await self._list(PODS, field_selector(status__podIP=address)):
            facts = describe_foreign(pod)
            if not facts.has_ended and not facts.host_network:
                return facts
        return None

    async def _list(self, path: str, query: Mapping[str, str]) -> list[Json]:
        items: list[Json] = (await self._client.get(path, query, timeout_s=API_LIMIT_S)).get("items") or []
        return items

    async def ask_agent(self, record: PodRecord, address: str) -> TablesAnswer:
        """Raises AgentError, WireError: nothing of an answer is used that does not fit."""
        if record.session is None or record.instance is None:
            raise AgentError("the pod's agent has no session with the provider")
        query = [("address", address)] if address else []
        try:
            async with asyncio.timeout(AGENT_LIMIT_S):
                response = await self._connector.request(record.instance, "GET", routes.TABLES, query)
                try:
                    body = bytearray()
                    async for chunk in response.iter_any():
                        body += chunk
                        if len(body) > MAX_ANSWER_BYTES:
                            raise WireError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
                finally:
                    await response.close()
        except TimeoutError:
            raise AgentError(f"the pod's agent has not answered within {AGENT_LIMIT_S:.0f} s") from None
        if response.status != HTTPStatus.OK:
            raise AgentError(f"the pod's agent answers with status {response.status}")
        return decode_tables_answer(bytes(body))
